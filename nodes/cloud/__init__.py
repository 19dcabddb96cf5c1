"""What the cloud does: every operation of the API as transactions on the store. No HTTP here."""
