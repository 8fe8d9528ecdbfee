"""The core that all else builds on: parties, the messages between them, and the training loop.

A reader starts with messages, party, client, server, protocols and train, in this order.
"""
