"""What results say: means, intervals and paired differences, the paper's claims, tickets compared layer by layer, and
how long what is queued will take.

It reads the store and writes nothing. No torch.
"""
