"""Results that others made, as rows: from a table, an MLflow experiment or an Optuna study."""
