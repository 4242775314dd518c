"""The engines: stores that keep logs and ledgers. Only the composition root names one."""
