/* Threads that share out pieces of work. They wait for the next piece for a moment, and then sleep. */
#pragma once
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>

#if defined __x86_64__
#include <immintrin.h>
/* Denormal numbers are taken as zero. Adam's moments decay to them, and some processors then take a hundred times as long. */
static unsigned flush_denormals(void) {
    const unsigned before = _mm_getcsr();
    _mm_setcsr(before | 0x8040);
    return before;
}
static void restore_denormals(unsigned before) { _mm_setcsr(before); }
static void pause_briefly(void) { _mm_pause(); }
#else
static unsigned flush_denormals(void) { return 0; }
static void restore_denormals(unsigned before) { (void)before; }
static void pause_briefly(void) {}
#endif

enum { MAX_WORKERS = 63, PAUSES = 1000 };

typedef void (*Work)(void *context, long item);

static struct {
    pthread_mutex_t in_use; /* by one caller at a time: another one works alone */
    pthread_mutex_t lock;   /* of what follows */
    pthread_cond_t has_begun, has_ended;
    int n_workers, n_wanted;
    atomic_long turn;     /* the number of the present piece of work */
    atomic_int n_inside;  /* workers that are at it */
    struct { _Alignas(64) atomic_long n_taken; } shares[MAX_WORKERS + 1]; /* by each thread, of its own items */
    Work work;
    void *context;
    long n_items;
} pool;

static void after_fork(void) {
    pthread_mutex_init(&pool.in_use, NULL);
    pthread_mutex_init(&pool.lock, NULL);
    pthread_cond_init(&pool.has_begun, NULL);
    pthread_cond_init(&pool.has_ended, NULL);
    pool.n_workers = 0; /* they have stayed with the parent */
    atomic_store(&pool.n_inside, 0);
}

__attribute__((constructor)) static void prepare_pool(void) {
    after_fork();
    pthread_atfork(NULL, NULL, after_fork);
}

/*
 * Thread t of T has the items t, t + T, t + 2 T, ..., each time the same ones, so that what they work on stays in its caches.
 * When they are done, it helps the others.
 */
static void take_items(int own) {
    const int n_threads = pool.n_wanted + 1;
    for (int i = 0; i < n_threads; i++) {
        const int whose = (own + i) % n_threads;
        for (long item; (item = whose + n_threads * atomic_fetch_add(&pool.shares[whose].n_taken, 1)) < pool.n_items;)
            pool.work(pool.context, item);
    }
}

static void *worker(void *number) {
    long seen = 0;
    flush_denormals();
    for (;;) {
        for (int i = 0; i < PAUSES && atomic_load(&pool.turn) == seen; i++) pause_briefly();
        pthread_mutex_lock(&pool.lock);
        while (atomic_load(&pool.turn) == seen) pthread_cond_wait(&pool.has_begun, &pool.lock);
        seen = atomic_load(&pool.turn);
        const int takes_part = (intptr_t)number < pool.n_wanted;
        if (takes_part) atomic_fetch_add(&pool.n_inside, 1);
        pthread_mutex_unlock(&pool.lock);
        if (!takes_part) continue;
        take_items((int)(intptr_t)number + 1);
        pthread_mutex_lock(&pool.lock);
        if (atomic_fetch_sub(&pool.n_inside, 1) == 1) pthread_cond_signal(&pool.has_ended);
        pthread_mutex_unlock(&pool.lock);
    }
    return NULL;
}

/* Under the lock. Fewer than asked for if the system has no more. */
static void begin_workers(int n) {
    sigset_t every, before;
    sigfillset(&every);
    pthread_sigmask(SIG_SETMASK, &every, &before); /* signals are for the threads of the caller */
    for (pthread_t thread; pool.n_workers < n; pool.n_workers++) {
        if (pthread_create(&thread, NULL, worker, (void *)(intptr_t)pool.n_workers)) break;
        pthread_detach(thread);
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

/* work(context, item) for each item, by at most n_threads threads, of which the caller is one. Returns when all is done. */
static void share_out(int n_threads, Work work, void *context, long n_items) {
    if (n_threads > MAX_WORKERS + 1) n_threads = MAX_WORKERS + 1;
    const int n_wanted = (n_threads < n_items ? n_threads : n_items) - 1;
    if (n_wanted < 1 || pthread_mutex_trylock(&pool.in_use)) {
        for (long item = 0; item < n_items; item++) work(context, item);
        return;
    }
    pthread_mutex_lock(&pool.lock);
    while (atomic_load(&pool.n_inside)) pthread_cond_wait(&pool.has_ended, &pool.lock); /* late for the last piece */
    begin_workers(n_wanted);
    pool.work = work, pool.context = context, pool.n_items = n_items, pool.n_wanted = n_wanted;
    for (int i = 0; i <= n_wanted; i++) atomic_store(&pool.shares[i].n_taken, 0);
    atomic_fetch_add(&pool.turn, 1);
    pthread_cond_broadcast(&pool.has_begun);
    pthread_mutex_unlock(&pool.lock);
    take_items(0);
    for (int i = 0; i < PAUSES && atomic_load(&pool.n_inside); i++) pause_briefly();
    pthread_mutex_lock(&pool.lock);
    while (atomic_load(&pool.n_inside)) pthread_cond_wait(&pool.has_ended, &pool.lock);
    pthread_mutex_unlock(&pool.lock);
    pthread_mutex_unlock(&pool.in_use);
}
