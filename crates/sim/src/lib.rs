//! thalweg-sim.
