def for_timm(cfg): return None
def for_jax(size): return None
def for_bit(size): return None
def to_timm(options): return {}
