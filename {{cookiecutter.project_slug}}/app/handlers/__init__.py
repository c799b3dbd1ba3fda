"""Yours: what to do about each event, one module per endpoint. `app/endpoints.py` lists them."""
