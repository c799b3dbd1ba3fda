"""A service that receives webhooks and loses none of them."""
