"""The network that hooks reach: what modules http and notify send, over connections that policy permits."""
