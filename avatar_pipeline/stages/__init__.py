"""One function an asset: it reads what is upstream from the store, makes its artifact once, and says what it did.

These functions know the store, the ledger and the engine's rooms, and no Dagster: the assets call them, and so may you.
"""
