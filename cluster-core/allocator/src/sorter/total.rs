//! What the cluster has.

use mizzen_types::resources::Quantities;

/// What the cluster has. Every change gives it a new number, by which sorters see
/// that their shares are out of date.
#[derive(Debug, Clone, Default)]
pub struct Total {
    pub(super) quantities: Quantities,
    pub(super) generation: u64,
}

impl Total {
    /// Adds an agent's scalars.
    pub fn add(&mut self, quantities: &Quantities) {
        self.quantities.add(quantities);
        self.generation += 1;
    }

    /// Takes an agent's scalars away.
    pub fn subtract(&mut self, quantities: &Quantities) {
        self.quantities.subtract(quantities);
        self.generation += 1;
    }

    /// The scalars of all agents.
    #[must_use]
    pub fn quantities(&self) -> &Quantities {
        &self.quantities
    }
}
