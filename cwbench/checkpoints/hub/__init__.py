"""The Hugging Face hub: addresses, and files that arrive whole or not at all."""
