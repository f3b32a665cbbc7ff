//! Every byte that crosses a BPF map
