"""What a run will take, said before it begins: parameters, memory, time, disk; and what fits this machine.

A plan is arithmetic on measurements. What can be counted is counted: parameters, tokens of every batch, bytes of
weights, gradients and moments. What depends on code and machine is measured once: a shortened model of the same shapes,
with random weights, takes a few real steps in a process of its own (``probe``), and what they took is fitted to counted
work (``calibration``). So a method needs no entry here: whatever ``attach`` makes of the model is what is measured.
"""
