//! plugins/redis
