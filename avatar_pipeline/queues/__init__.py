"""The queues by which requests arrive: Amazon SQS, or tables of the ledger's database with the same semantics."""
