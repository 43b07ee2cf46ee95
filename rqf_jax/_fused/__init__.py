"""Fused kernels: a small step, taken apart into arithmetic on lanes, as one compiled function.

XLA makes many kernels of one solver step, and stores to memory between them. Here `lanes`
evaluates the jaxpr of the step entry by entry: an entry is one value in a register, of which every
lane belongs to another member. `loop` writes all steps of a save interval as one loop in LLVM's
language. LLVM compiles it for this CPU (`cpu`) or to PTX for an NVIDIA GPU (`gpu`), and XLA calls
the result like an operation of its own.
"""
