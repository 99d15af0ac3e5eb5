"""What a module in a bank is given besides its rows: the expert of each row, rows being sorted by expert, and where each expert's rows end."""

BANK_INPUTS = ("expert", "ends")
