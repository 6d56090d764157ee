//! wasmtime's settings.

use wasmtime::{Config, Enabled, InstanceAllocationStrategy, PoolingAllocationConfig};

/// Maximum number of component instances that an instance of a component consists of. Each may have a suspended task.
pub(super) const MAX_COMPONENT_INSTANCES: usize = 30;

/// Returns the settings of an engine with a pool of instances, or without one.
pub(super) fn config(pooled_instances: Option<u32>) -> Config {
    let mut config = Config::new();
    config.epoch_interruption(true);
    config.wasm_component_model_async(true);
    if let Some(instances) = pooled_instances {
        // Limits per component. A composed one has a core instance and a table or two for each of its parts and adapters, and a
        // memory for each part. Every instance has room for the maximum, so a large component leaves none without; this reserves
        // address space, not memory.
        const CORE_INSTANCES: u32 = 64;
        const MEMORIES: u32 = 8;
        const TABLES: u32 = 64;
        // A task that is suspended within a call keeps its stack.
        const STACKS: u32 = MAX_COMPONENT_INSTANCES as u32 + 2;
        let mut pool = PoolingAllocationConfig::new();
        pool.total_component_instances(instances)
            .total_core_instances(instances.saturating_mul(CORE_INSTANCES))
            .total_memories(instances.saturating_mul(MEMORIES))
            .total_tables(instances.saturating_mul(TABLES))
            .total_stacks(instances.saturating_mul(STACKS))
            .max_core_instances_per_component(CORE_INSTANCES)
            .max_memories_per_component(MEMORIES)
            .max_tables_per_component(TABLES)
            // Enough for the interpreters of JavaScript and Python handlers.
            .table_elements(200_000)
            .max_core_instance_size(4 << 20)
            .max_component_instance_size(4 << 20)
            // What a small handler touches stays resident, so that the next instance does not fault it in again.
            .linear_memory_keep_resident(256 << 10)
            .table_keep_resident(16 << 10)
            .pagemap_scan(Enabled::Auto);
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    }
    config
}
