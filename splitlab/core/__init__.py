"""What everything else is said in: parties, messages between them, and the loop that trains.

A reader starts with messages, party, client, server, protocols and train, in this order.
"""
