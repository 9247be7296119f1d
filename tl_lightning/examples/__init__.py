"""Programs that use an exported model without this package; each is written beside what it runs."""
