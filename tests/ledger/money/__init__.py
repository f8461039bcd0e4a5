"""The money, put to the test: in any order of calls, by many processes at once, and with gates that are broken."""
