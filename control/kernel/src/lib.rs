//! The reconciler: observe the kernel, plan, apply
