"""What may be spent: budgets, periods, estimates, forecasts and prices. Pure: the ledger keeps, these decide."""
