//! wasmtime's settings.

use wasmtime::{Config, Enabled, InstanceAllocationStrategy, PoolingAllocationConfig};

/// Settings of an engine with a pool for so many instances, or without one.
pub(super) fn config(pooled_instances: Option<u32>) -> Config {
    let mut config = Config::new();
    config.epoch_interruption(true);
    config.wasm_component_model_async(true);
    if let Some(instances) = pooled_instances {
        // The most of each that one component has. A composed one has a core instance and a table or two for each of its parts and
        // adapters, and a memory for each part. There is room for that in every place, so a component that takes much
        // leaves no other without; these are address space, not memory.
        const CORE_INSTANCES: u32 = 64;
        const MEMORIES: u32 = 8;
        const TABLES: u32 = 64;
        // A task that waits in the middle of a call keeps its stack.
        const STACKS: u32 = 16;
        let mut pool = PoolingAllocationConfig::new();
        pool.total_component_instances(instances)
            .total_core_instances(instances.saturating_mul(CORE_INSTANCES))
            .total_memories(instances.saturating_mul(MEMORIES))
            .total_tables(instances.saturating_mul(TABLES))
            .total_stacks(instances.saturating_mul(STACKS))
            .max_core_instances_per_component(CORE_INSTANCES)
            .max_memories_per_component(MEMORIES)
            .max_tables_per_component(TABLES)
            // Large enough for the interpreters that JavaScript and Python handlers carry.
            .table_elements(200_000)
            .max_core_instance_size(4 << 20)
            .max_component_instance_size(4 << 20)
            // Keep what a small handler touches, so that its next instance need not fault it in again.
            .linear_memory_keep_resident(256 << 10)
            .table_keep_resident(16 << 10)
            .pagemap_scan(Enabled::Auto);
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    }
    config
}
