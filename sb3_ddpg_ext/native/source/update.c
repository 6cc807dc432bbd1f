/*
 * A gradient step of DDPG: Algorithm 1 of Lillicrap et al. (2016), arXiv 1509.02971, and the additions of TD3, of a categorical
 * critic, and of CrossQ.
 */
#if defined __x86_64__ && defined __linux__
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif
#if defined __linux__
#include <sys/mman.h>
#endif
#include <stdlib.h>

#include "act.h"
#include "adam.h"
#include "batch_norm.h"
#include "categorical.h"
#include "pool.h"

enum { MAX_CRITICS = 16, LARGE = 64, AT_A_TIME = 64, HUBER = 1 };

/* Of several critics: the targets are of one of the first two, the actor climbs any of the three. */
enum { SMALLEST = 0, MEAN = 1, FIRST = 2 };

_Static_assert(UNITS % 2 == 0, "pairs of units are of one piece");

/* A minibatch and the settings of its update, by the caller; and what comes out. */
typedef struct {
    const real *observations, *actions, *next_observations, *rewards, *dones, *discounts;
    const real *weights;   /* (n) of each transition's loss; NULL for 1 */
    const real *smoothing; /* (n, action_dim), noise on the next actions; NULL for none */
    const real *atoms;     /* of categorical critics, as many as they have outputs; NULL for scalar ones */
    long observations_row, actions_row, next_observations_row, rewards_row, dones_row, discounts_row;
    double tau, largest_norm, lowest, highest, reward_factor, action_l2, lowest_atom, atoms_per_return;
    int loss, backup, objective, updates_actor, updates_targets, n_threads;
    real *errors; /* (n), the largest of the critics' on each transition; NULL if they are not wanted */
    double critic_loss, actor_loss;
} Step;

/* Units [first, last) of a layer, for which one thread makes the gradients and takes the step. */
typedef struct {
    Layer *layer;
    Network *network;
    Layer *target;
    const real *const *x; /* the layer's input, which is there when the plan has its memory */
    long x_row, first, last;
    const int *groups; /* of weight, bias and those of the norm: which group of the optimiser they are in */
    double squares;    /* sum of its squared gradients */
} Piece;

/* Where all blocks are on their way through a network. */
typedef struct {
    Network *network;
    const real *x; /* (blocks, n_obs + n_actions, width) */
    long n_parts;
    int at; /* the layer in which they wait, see advance() and retreat() */
} Pass;

/* An optimiser, and the pieces of its networks. */
typedef struct {
    Adam adam;
    Piece *pieces;
    long n_pieces;
} Side;

typedef struct {
    Network actor, actor_target, critics[MAX_CRITICS], critics_target[MAX_CRITICS];
    Side of_actor, of_critics;
    int actor_groups[MAX_LAYERS][4], critic_groups[MAX_CRITICS][MAX_LAYERS][4];
    int n_critics;
    int is_joint;         /* present and next observations pass the critics in one batch, in place of targets: CrossQ */
    int targets_of_batch; /* whether BatchNorm in the targets normalises by the batch */
    long n, n_obs, n_actions;
    long width; /* transitions in a block, a multiple of V and of 2 WORDS; no number depends on it */

    long n_blocks, x_row;
    real *x;                      /* (n, x_row): observations and actions, a row for each transition; in a joint pass next ones, too */
    real *columns, *next_columns; /* (blocks, n_obs + n_actions, width): the same, and, behind it, what follows */
    real *losses;                 /* (n_critics, n) */
    real *targets;                /* (blocks, n_atoms, width): distributions; none for scalar critics */
    real *memory;
    Step *step;
    Side *side; /* whose pieces are worked on */
    Pass pass;
} Plan;

/* --- memory --- */

/* Much of it is in pages of two megabytes, if Linux has them: the rows of a large batch's matrices are on many small ones. */
static real *new_memory(size_t size) {
    enum { HUGE_PAGE = 1 << 21 };
    if (size < HUGE_PAGE) return aligned_alloc(BYTES, size);
    real *memory = aligned_alloc(HUGE_PAGE, (size + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE);
#if defined MADV_HUGEPAGE
    if (memory) madvise(memory, size, MADV_HUGEPAGE);
#endif
    return memory;
}

static size_t in_vectors(size_t n) { return (n + V - 1) / V * V; }

static int has_batch_norm(const Network *network) {
    for (int l = 0; l < network->n_layers; l++)
        if (network->layers[l].running_mean) return 1;
    return 0;
}

/* Parts of a batch in the critics: present and next transitions in a joint pass. */
static long critic_parts(const Plan *plan) { return plan->is_joint ? 2 : 1; }

/* Those that have a gradient: the next ones by the statistics that they have a share in. */
static long gradient_parts(const Plan *plan, const Network *critic) { return has_batch_norm(critic) ? critic_parts(plan) : 1; }

/* Give a network its memory, or count what it will need where `memory` is NULL. Returns where it ends. */
static size_t lay_out_network(const Plan *plan, Network *network, long n_parts, int learns, real *memory, size_t at) {
    const size_t columns = n_parts * plan->n_blocks * plan->width;
    for (Layer *layer = network->layers; layer <= last_of(network); layer++) {
        const int batch = layer->running_mean && (learns || plan->targets_of_batch), pairs = layer->in_pairs;
        const int norm = layer->norm_weight && !layer->running_mean;
        const size_t size = layer->n_out * columns, units = in_vectors(layer->n_out);
        layer->row = row_length(layer->n_out);
        struct { real **what; size_t size; } parts[] = {
            {&layer->outputs, size}, {&layer->before, needs_input(layer) ? size : 0}, {&layer->standardised, norm || batch ? size : 0},
            {&layer->mean, batch ? units : 0}, {&layer->rstd, batch ? units : norm ? columns : 0},
            {&layer->gradient, learns ? size : 0}, {&layer->norm_gradient, learns && norm ? size : 0},
            {&layer->gradient_sum, learns && batch ? units : 0}, {&layer->product_sum, learns && batch ? units : 0},
            {&layer->rows, learns && layer < last_of(network) ? columns * layer->row : 0},
            {&layer->weight_pairs, pairs ? layer->n_out * n_pairs(layer->n_in) : 0},
            {&layer->weight_columns, pairs && learns ? n_pairs(layer->n_out) * layer->n_in : 0},
            {&layer->input_pairs, pairs ? n_pairs(layer->n_in) * columns : 0},
            {&layer->gradient_pairs, pairs && learns ? n_pairs(layer->n_out) * columns : 0},
            {&layer->gradient_columns, pairs && learns ? size / 2 : 0},
            {&layer->output_columns, learns && layer < last_of(network) && layer[1].in_pairs ? size / 2 : 0},
        };
        for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
            if (memory && parts[i].size) *parts[i].what = memory + at;
            at += parts[i].size;
        }
    }
    return at;
}

/* The products of large layers are of rounded numbers; observations, actions and what the networks give out are not rounded. */
static void choose_pairs(Network *network) {
    for (Layer *layer = first_of(network) + 1; layer < last_of(network); layer++)
        layer->in_pairs = ROUNDS && layer->n_in >= LARGE && layer->n_out >= LARGE;
}

static size_t lay_out(Plan *plan, real *memory) {
    size_t at = 0;
    at = lay_out_network(plan, &plan->actor, 1, 1, memory, at);
    at = lay_out_network(plan, &plan->actor_target, 1, 0, memory, at);
    for (int c = 0; c < plan->n_critics; c++) {
        at = lay_out_network(plan, &plan->critics[c], critic_parts(plan), 1, memory, at);
        if (!plan->is_joint) at = lay_out_network(plan, &plan->critics_target[c], 1, 0, memory, at);
    }
    const long n_outputs = last_of(&plan->critics[0])->n_out;
    const size_t columns = plan->n_blocks * plan->width, n_inputs = plan->n_obs + plan->n_actions;
    plan->x_row = row_length(n_inputs);
    struct { real **what; size_t size; } parts[] = {
        {&plan->x, critic_parts(plan) * columns * plan->x_row}, {&plan->columns, columns * n_inputs},
        {&plan->next_columns, columns * n_inputs}, {&plan->losses, plan->n_critics * columns},
        {&plan->targets, n_outputs > 1 ? n_outputs * columns : 0},
    };
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        if (memory) *parts[i].what = memory + at;
        at += parts[i].size;
    }
    return at + V; /* the last vector may be read to its end */
}

/* --- pieces of work --- */

/* Cut a network into pieces, or count them where `to` is NULL. */
static long cut(Plan *plan, Network *network, Network *target, int (*groups)[4], Piece *to) {
    long n = 0;
    for (int l = 0; l < network->n_layers; l++) {
        Layer *layer = &network->layers[l];
        const long n_units = layer->weight ? layer->n_out : layer->n_normed;
        for (long first = 0; first < n_units; first += UNITS, n++) {
            const long last = n_units < first + UNITS ? n_units : first + UNITS;
            if (to)
                to[n] = (Piece){layer, network, &target->layers[l], l ? (const real *const *)&layer[-1].rows : (const real *const *)&plan->x,
                                l ? layer[-1].row : plan->x_row, first, last, groups[l], 0};
        }
    }
    return n;
}

static void cut_all(Plan *plan) {
    Side *critics = &plan->of_critics, *actor = &plan->of_actor;
    actor->n_pieces = cut(plan, &plan->actor, &plan->actor_target, plan->actor_groups, actor->pieces);
    critics->n_pieces = 0;
    for (int c = 0; c < plan->n_critics; c++)
        critics->n_pieces += cut(plan, &plan->critics[c], plan->is_joint ? &plan->critics[c] : &plan->critics_target[c],
                                 plan->critic_groups[c], critics->pieces ? critics->pieces + critics->n_pieces : NULL);
}

/* Parameters of a piece that are side by side: rows of the weight, or units of the bias or of the norm. */
typedef struct {
    real *parameters, *target; /* NULL where the layer has none */
    long n;
    int group;
} Part;

static Part part_of(const Piece *piece, int which) {
    const Layer *layer = piece->layer, *target = piece->target;
    real *const own[] = {layer->weight, layer->bias, layer->norm_weight, layer->norm_bias};
    real *const its[] = {target->weight, target->bias, target->norm_weight, target->norm_bias};
    if (!own[which]) return (Part){0};
    const long each = which == 0 ? layer->n_in : 1, begin = piece->first * each;
    return (Part){own[which] + begin, its[which] + begin, (piece->last - piece->first) * each, piece->groups[which]};
}

/* --- the update --- */

/* Of all parts. */
static Block block_of(const Plan *plan, long item) {
    const long first = item % plan->n_blocks * plan->width, n = plan->n - first < plan->width ? plan->n - first : plan->width;
    return (Block){item, plan->width, n, rounded_up(n, V), item >= plan->n_blocks};
}

/* Copy a block of the batch to where the networks read it. */
static void take(Plan *plan, Block block) {
    const Step *step = plan->step;
    const long first = block.number * block.width, n_inputs = plan->n_obs + plan->n_actions;
    real *columns = plan->columns + first * n_inputs, *next_columns = plan->next_columns + first * n_inputs;
    for (long i = first; i < first + block.n; i++) {
        real *x = plan->x + i * plan->x_row;
        memcpy(x, step->observations + i * step->observations_row, plan->n_obs * sizeof(real));
        memcpy(x + plan->n_obs, step->actions + i * step->actions_row, plan->n_actions * sizeof(real));
    }
    transpose(plan->x + first * plan->x_row, plan->x_row, block.n, n_inputs, columns, block.width);
    transpose(step->next_observations + first * step->next_observations_row, step->next_observations_row, block.n, plan->n_obs,
              next_columns, block.width);
}

/* What a critic gives out for the next observations and actions of a block, in a joint pass or by its target. */
static real *next_outputs(Plan *plan, int c, Block block) {
    if (plan->is_joint) block.number += plan->n_blocks;
    Layer *last = last_of(plan->is_joint ? &plan->critics[c] : &plan->critics_target[c]);
    return of_block(last->outputs, last, block);
}

/* gamma to the number of steps, 0 after a termination. */
static real discount_of(const Step *step, long i) {
    return (1 - step->dones[i * step->dones_row]) * step->discounts[i * step->discounts_row];
}

static real reward_of(const Step *step, long i) { return step->rewards[i * step->rewards_row] * (real)step->reward_factor; }

/* y = r + gamma (1 - d) Q'(s', a'), with the smallest of the critics' values, or their mean. */
static real target_of(Plan *plan, Block block, long j) {
    const Step *step = plan->step;
    const long i = block.number * block.width + j;
    real value = 0;
    for (int c = 0; c < plan->n_critics; c++) {
        const real q = next_outputs(plan, c, block)[j];
        value = c == 0 ? q : step->backup == MEAN ? value + q : q < value || q != q ? q : value;
    }
    if (step->backup == MEAN) value /= plan->n_critics;
    const real y = reward_of(step, i) + discount_of(step, i) * value;
    return y < step->lowest ? step->lowest : y > step->highest ? step->highest : y;
}

/* The loss of an error, and its derivative. */
static real loss_of(const Step *step, real error, real *derivative) {
    const real size = error < 0 ? -error : error;
    if (step->loss == HUBER && size > 1) {
        *derivative = error < 0 ? -1 : 1;
        return size - (real)0.5;
    }
    *derivative = step->loss == HUBER ? error : 2 * error;
    return step->loss == HUBER ? (real)0.5 * error * error : error * error;
}

/* mu'(s'), with noise on it where the targets are smoothed, to where the target critics read it. */
static void next_actions(Plan *plan, Block block) {
    const Step *step = plan->step;
    const Layer *mu = last_of(&plan->actor_target);
    const long first = block.number * block.width;
    const real *actions = of_block(mu->outputs, mu, block);
    real *to = plan->next_columns + first * (plan->n_obs + plan->n_actions) + plan->n_obs * block.width;
    memcpy(to, actions, plan->n_actions * block.width * sizeof(real));
    for (long k = 0; step->smoothing && k < plan->n_actions; k++)
        for (long j = 0; j < block.n; j++) {
            const real action = actions[k * block.width + j] + step->smoothing[(first + j) * plan->n_actions + k];
            to[k * block.width + j] = action < -1 ? -1 : action > 1 ? 1 : action;
        }
}

static Atoms atoms_of(const Plan *plan) {
    const Step *step = plan->step;
    const long n = plan->critics[0].layers[plan->critics[0].n_layers - 1].n_out;
    return (Atoms){step->atoms, n, plan->width, step->lowest_atom, step->atoms_per_return};
}

/* The same as distributions, of V transitions from j on: that of the smallest mean, or the mean of all. */
static const real *distribution_of(Plan *plan, Block block, long j) {
    const Step *step = plan->step;
    const Atoms atoms = atoms_of(plan);
    real *best = next_outputs(plan, 0, block) + j, *target = plan->targets + block.number * atoms.n * block.width + j;
    vec smallest = probabilities(best, atoms, best), reward = {0}, discount = {0};
    for (int c = 1; c < plan->n_critics; c++) {
        real *other = next_outputs(plan, c, block) + j;
        const vec mean = probabilities(other, atoms, other);
        const mask is_smaller = (mean < smallest) | (mean != mean);
        smallest = choose(is_smaller, mean, smallest);
        for (long k = 0; k < atoms.n * block.width; k += block.width) {
            const vec one = load(best + k), two = load(other + k);
            store(best + k, step->backup == MEAN ? one + two : choose(is_smaller, two, one));
        }
    }
    for (long k = 0; step->backup == MEAN && k < atoms.n * block.width; k += block.width)
        store(best + k, load(best + k) / (real)plan->n_critics);
    for (long lane = 0; lane < V && j + lane < block.n; lane++) {
        const long i = block.number * block.width + j + lane;
        reward[lane] = reward_of(step, i), discount[lane] = discount_of(step, i);
    }
    project(best, atoms, reward, discount, step->lowest, step->highest, target);
    return target;
}

static void keep_error(const Step *step, int c, long i, real size) {
    if (step->errors) step->errors[i] = c == 0 || size > step->errors[i] || size != size ? size : step->errors[i];
}

/* The cross-entropy of categorical critics on a block, and its gradient by their outputs. */
static void categorical_losses(Plan *plan, Block block) {
    const Step *step = plan->step;
    const Atoms atoms = atoms_of(plan);
    for (long j = 0; j < block.n; j += V) {
        const real *target = distribution_of(plan, block, j);
        const long first = block.number * block.width + j, n = block.n - j < V ? block.n - j : V;
        const vec own = step->errors ? entropy(target, atoms) : (vec){0};
        vec weight = {0};
        for (long lane = 0; lane < n; lane++) weight[lane] = step->weights ? step->weights[first + lane] : 1;
        for (int c = 0; c < plan->n_critics; c++) {
            Layer *z = last_of(&plan->critics[c]);
            real *gradient = of_block(z->gradient, z, block) + j;
            const vec loss = cross_entropy(of_block(z->outputs, z, block) + j, target, atoms, gradient);
            for (long lane = 0; lane < n; lane++) {
                const real divergence = loss[lane] - own[lane];
                plan->losses[c * plan->n + first + lane] = weight[lane] * loss[lane];
                keep_error(step, c, first + lane, divergence < 0 ? 0 : divergence);
            }
            for (long k = 0; k < atoms.n * block.width; k += block.width)
                store(gradient + k, load(gradient + k) * (weight / (real)plan->n));
        }
    }
}

static void scalar_losses(Plan *plan, Block block) {
    const Step *step = plan->step;
    for (long j = 0; j < block.n; j++) {
        const long i = block.number * block.width + j;
        const real y = target_of(plan, block, j), weight = step->weights ? step->weights[i] : 1;
        for (int c = 0; c < plan->n_critics; c++) {
            Layer *q = last_of(&plan->critics[c]);
            const real error = of_block(q->outputs, q, block)[j] - y;
            real derivative;
            plan->losses[c * plan->n + i] = weight * loss_of(step, error, &derivative);
            of_block(q->gradient, q, block)[j] = weight * derivative / plan->n;
            keep_error(step, c, i, error < 0 ? -error : error);
        }
    }
}

static void losses_of_block(Plan *plan, Block block) {
    if (plan->step->atoms)
        categorical_losses(plan, block);
    else
        scalar_losses(plan, block);
}

/* The critics' losses on a block, and their gradients down to each layer. */
static void critic_block(void *context, long item) {
    Plan *plan = context;
    const Block block = block_of(plan, item);
    const long begin = item * plan->width * (plan->n_obs + plan->n_actions);
    take(plan, block);
    forward(&plan->actor_target, plan->next_columns + begin, block);
    next_actions(plan, block);
    for (int c = 0; c < plan->n_critics; c++) {
        forward(&plan->critics_target[c], plan->next_columns + begin, block);
        forward(&plan->critics[c], plan->columns + begin, block);
    }
    losses_of_block(plan, block);
    for (int c = 0; c < plan->n_critics; c++) {
        backward(&plan->critics[c], block, NULL, 0, 0);
        keep_rows(&plan->critics[c], block);
    }
}

/* How many critics the actor climbs. */
static int n_climbed(const Plan *plan) { return plan->step->objective == FIRST ? 1 : plan->n_critics; }

/* What it climbs for V transitions from j on, and, in the critics, the gradients of minus the mean of it by their outputs. */
static vec climb_critics(Plan *plan, Block block, long j) {
    const Step *step = plan->step;
    const int n_critics = n_climbed(plan), is_mean = step->objective == MEAN;
    const real factor = -(real)1 / (plan->n * (is_mean ? n_critics : 1));
    vec values[MAX_CRITICS], climbed = {0};
    for (int c = 0; c < n_critics; c++) {
        Layer *q = last_of(&plan->critics[c]);
        const real *outputs = of_block(q->outputs, q, block) + j;
        real *gradient = of_block(q->gradient, q, block) + j;
        if (!step->atoms) store(gradient, all(factor));
        values[c] = step->atoms ? climb(outputs, atoms_of(plan), factor, gradient) : load(outputs);
        const mask is_smaller = (values[c] < climbed) | (values[c] != values[c]);
        climbed = c == 0 ? values[c] : is_mean ? climbed + values[c] : choose(is_smaller, values[c], climbed);
    }
    if (is_mean) return climbed / (real)n_critics;
    if (n_critics == 1) return climbed;
    mask is_found = all(0) != all(0);
    for (int c = 0; c < n_critics; c++) {
        Layer *q = last_of(&plan->critics[c]);
        const mask is_other = (values[c] > climbed) | is_found; /* of equal ones the first is climbed; where one is NaN, all are */
        for (long k = 0; k < q->n_out * block.width; k += block.width) {
            real *gradient = of_block(q->gradient, q, block) + k + j;
            store(gradient, choose(is_other, (vec){0}, load(gradient)));
        }
        is_found |= values[c] == climbed;
    }
    return climbed;
}

/* Q(s, mu(s)) on a block, after the actor, and the gradient of -Q by the actions. */
static void climb_block(void *context, long item) {
    Plan *plan = context;
    const Step *step = plan->step;
    const Block block = block_of(plan, item);
    const long first = block.number * block.width, begin = first * (plan->n_obs + plan->n_actions);
    const long of_actions = begin + plan->n_obs * block.width, n_numbers = plan->n_actions * block.width;
    Layer *mu = last_of(&plan->actor);
    const real *actions = of_block(mu->outputs, mu, block);
    real *gradient = of_block(mu->gradient, mu, block), *other = plan->next_columns + of_actions; /* the next actions have served */
    memcpy(plan->columns + of_actions, actions, n_numbers * sizeof(real));
    for (int c = 0; c < n_climbed(plan); c++) forward(&plan->critics[c], plan->columns + begin, block);
    for (long j = 0; j < block.n; j += V) {
        const vec values = climb_critics(plan, block, j);
        for (long lane = 0; lane < V && j + lane < block.n; lane++) plan->losses[first + j + lane] = -values[lane];
    }
    for (int c = 0; c < n_climbed(plan); c++) {
        backward(&plan->critics[c], block, c == 0 ? gradient : other, plan->n_obs, plan->n_actions);
        for (long k = 0; c > 0 && k < n_numbers; k += block.width)
            for (long j = k; j < k + block.whole; j += V) store(gradient + j, load(gradient + j) + load(other + j));
    }
    for (long k = 0; step->action_l2 && k < plan->n_actions; k++)
        for (long j = 0; j < block.n; j++) {
            const real action = actions[k * block.width + j];
            plan->losses[first + j] += step->action_l2 / plan->n_actions * action * action;
            gradient[k * block.width + j] += 2 * step->action_l2 / (plan->n * plan->n_actions) * action;
        }
    /* the gradient of the penalty is in derive() */
    for (long k = 0; mu->penalty > 0 && k < plan->n_actions; k++) {
        const real *before = of_block(mu->before, mu, block) + k * block.width;
        for (long j = 0; j < block.n; j++) plan->losses[first + j] += mu->penalty / 2 * plan->n * before[j] * before[j];
    }
}

/* The same with the actor before it, and the gradients through the actor. */
static void actor_block(void *context, long item) {
    Plan *plan = context;
    const Block block = block_of(plan, item);
    forward(&plan->actor, plan->columns + item * plan->width * (plan->n_obs + plan->n_actions), block);
    climb_block(context, item);
    backward(&plan->actor, block, NULL, 0, 0);
    keep_rows(&plan->actor, block);
}

/* --- the same, where BatchNorm needs the statistics of the batch, or present and next observations pass together --- */

static Extent extent_of(const Plan *plan, long n_parts) { return (Extent){plan->n, plan->width, plan->n_blocks, n_parts}; }

static void share_out_blocks(Plan *plan, Work work, long n_parts) {
    share_out(plan->step->n_threads, work, plan, n_parts * plan->n_blocks);
}

static void share_out_units(Plan *plan, Work work, const Layer *layer) {
    share_out(plan->step->n_threads, work, plan, (layer->n_normed + UNITS - 1) / UNITS);
}

static void take_block(void *context, long item) { take(context, block_of(context, item)); }

/* In a joint pass also as rows, for the gradients of the critics' first layers. */
static void next_actions_block(void *context, long item) {
    Plan *plan = context;
    const Block block = block_of(plan, item);
    const long first = item * plan->width, n_inputs = plan->n_obs + plan->n_actions;
    next_actions(plan, block);
    if (plan->is_joint)
        transpose(plan->next_columns + first * n_inputs, block.width, n_inputs, block.n,
                  plan->x + (plan->n_blocks * plan->width + first) * plan->x_row, plan->x_row);
}

static void losses_block(void *context, long item) { losses_of_block(context, block_of(context, item)); }

static void advance_block(void *context, long item) {
    const Plan *plan = context;
    const Pass *pass = &plan->pass;
    advance(pass->network, pass->at, pass->x + item * plan->width * (plan->n_obs + plan->n_actions), block_of(plan, item));
}

static void measure_piece(void *context, long item) {
    const Plan *plan = context;
    Layer *layer = &plan->pass.network->layers[plan->pass.at];
    const long last = (item + 1) * UNITS < layer->n_normed ? (item + 1) * UNITS : layer->n_normed;
    measure_units(layer, item * UNITS, last, extent_of(plan, plan->pass.n_parts));
}

/* All blocks through a network, which normalises by their statistics or by running ones. */
static void advance_all(Plan *plan, Network *network, int of_batch, const real *x, long n_parts) {
    network->of_batch = of_batch;
    plan->pass = (Pass){network, x, n_parts, -1};
    for (int *at = &plan->pass.at, next = 0; next < network->n_layers;) {
        for (next = *at + 1; next < network->n_layers && !waits(network, &network->layers[next]);) next++;
        share_out_blocks(plan, advance_block, n_parts);
        *at = next;
        if (next == network->n_layers) break;
        *network->layers[next].n_batches += 1;
        share_out_units(plan, measure_piece, &network->layers[next]);
    }
}

static void retreat_block(void *context, long item) {
    const Plan *plan = context;
    const Pass *pass = &plan->pass;
    retreat(pass->network, pass->at, plan->n * pass->n_parts, block_of(plan, item), NULL, 0, 0);
}

static void sum_piece(void *context, long item) {
    const Plan *plan = context;
    Layer *layer = &plan->pass.network->layers[plan->pass.at];
    const long last = (item + 1) * UNITS < layer->n_normed ? (item + 1) * UNITS : layer->n_normed;
    sum_gradients(layer, item * UNITS, last, extent_of(plan, plan->pass.n_parts));
}

static void keep_rows_block(void *context, long item) {
    const Plan *plan = context;
    keep_rows(plan->pass.network, block_of(plan, item));
}

/* The gradients of a network that all blocks have passed. */
static void retreat_all(Plan *plan, Network *network, long n_parts) {
    plan->pass = (Pass){network, NULL, n_parts, network->n_layers};
    for (int *at = &plan->pass.at, next = network->n_layers; next >= 0;) {
        for (next = *at - 1; next >= 0 && !waits(network, &network->layers[next]);) next--;
        share_out_blocks(plan, retreat_block, n_parts);
        *at = next;
        if (next < 0) break;
        share_out_units(plan, sum_piece, &network->layers[next]);
        if (!network->layers[next].weight) break;
    }
    share_out_blocks(plan, keep_rows_block, n_parts);
}

static void critics_in_stages(Plan *plan) {
    const long n_parts = critic_parts(plan);
    share_out_blocks(plan, take_block, 1);
    advance_all(plan, &plan->actor_target, plan->targets_of_batch, plan->next_columns, 1);
    share_out_blocks(plan, next_actions_block, 1);
    for (int c = 0; c < plan->n_critics; c++) {
        if (!plan->is_joint) advance_all(plan, &plan->critics_target[c], plan->targets_of_batch, plan->next_columns, 1);
        advance_all(plan, &plan->critics[c], 1, plan->columns, n_parts);
    }
    share_out_blocks(plan, losses_block, 1);
    for (int c = 0; c < plan->n_critics; c++) retreat_all(plan, &plan->critics[c], gradient_parts(plan, &plan->critics[c]));
}

static void actor_in_stages(Plan *plan) {
    advance_all(plan, &plan->actor, 1, plan->columns, 1);
    for (int c = 0; c < plan->n_critics; c++) plan->critics[c].of_batch = 0;
    share_out_blocks(plan, climb_block, 1);
    retreat_all(plan, &plan->actor, 1);
}

/* Whether a block cannot go through all of it by itself. */
static int is_in_stages(const Plan *plan) {
    int is = plan->is_joint || has_batch_norm(&plan->actor);
    for (int c = 0; c < plan->n_critics; c++) is |= has_batch_norm(&plan->critics[c]);
    return is;
}

/* --- steps --- */

static void make_gradients(void *context, long item) {
    const Plan *plan = context;
    Piece *piece = &plan->side->pieces[item];
    const Layer *layer = piece->layer;
    const Adam *adam = &plan->side->adam;
    real *const own[] = {layer->weight, layer->bias, layer->norm_weight, layer->norm_bias}, *to[4] = {NULL};
    for (int which = 0; which < 4; which++)
        if (own[which]) to[which] = adam->gradients + (own[which] - adam->values);
    const int is_once = plan->side == &plan->of_actor || layer == last_of(piece->network);
    parameter_gradients(layer, *piece->x, piece->x_row, extent_of(plan, is_once ? 1 : gradient_parts(plan, piece->network)),
                        piece->first, piece->last, piece->network->of_batch, (Gradients){to[0], to[1], to[2], to[3]});
    if (plan->step->largest_norm < 0) return;
    piece->squares = 0;
    for (int which = 0; which < 4; which++) {
        const Part part = part_of(piece, which);
        const real *gradients = part.n ? adam->gradients + (part.parameters - adam->values) : NULL;
        for (long i = 0; i < part.n; i++) piece->squares += (double)gradients[i] * gradients[i];
    }
}

static void move_targets(void *context, long item) {
    const Plan *plan = context;
    for (int which = 0; which < 4; which++) {
        const Part part = part_of(&plan->side->pieces[item], which);
        if (part.n) move(part.target, part.parameters, part.n, plan->step->tau);
    }
}

/* Round the weights of a piece to pairs. */
static void round_weights(Layer *layer, long first, long last, int learns) {
    const real *weights = layer->weight + first * layer->n_in;
    const long n = last - first, row = n_pairs(layer->n_in);
    pair_columns(weights, layer->n_in, n, layer->n_in, layer->weight_pairs + first * row, row);
    if (learns && !IN_TILES) pair_rows(weights, layer->n_in, n, layer->n_in, layer->weight_columns + first / 2 * layer->n_in, layer->n_in);
    real some[UNITS / 2 * AT_A_TIME];
    for (long i = 0; learns && IN_TILES && i < layer->n_in; i += AT_A_TIME) {
        const long n_columns = layer->n_in - i < AT_A_TIME ? layer->n_in - i : AT_A_TIME, to_row = n_pairs(layer->n_out);
        pair_rows(weights + i, layer->n_in, n, n_columns, some, AT_A_TIME);
        transpose(some, AT_A_TIME, (n + 1) / 2, n_columns, layer->weight_columns + i * to_row + first / 2, to_row);
    }
}

static void round_all_weights(void *context, long item) {
    const Piece *piece = &((const Plan *)context)->side->pieces[item];
    if (!piece->layer->in_pairs) return;
    round_weights(piece->layer, piece->first, piece->last, 1);
    if (piece->target != piece->layer) round_weights(piece->target, piece->first, piece->last, 0);
}

/* Take the step, and let the targets follow. */
static void follow_gradients(void *context, long item) {
    const Plan *plan = context;
    const Piece *piece = &plan->side->pieces[item];
    const Adam *adam = &plan->side->adam;
    for (int which = 0; which < 4; which++) {
        const Part part = part_of(piece, which);
        if (part.n) adam_step(adam, part.group, part.parameters - adam->values, part.n);
    }
    if (plan->step->updates_targets) move_targets(context, item);
    if (piece->layer->in_pairs) round_weights(piece->layer, piece->first, piece->last, 1); /* for the actor's loss */
}

static void gradients_and_step(void *context, long item) {
    make_gradients(context, item);
    follow_gradients(context, item);
}

/* Scale the gradients of one optimiser down to the largest norm that they may have. */
static void clip(Plan *plan, Side *side) {
    double sum = 0;
    for (long item = 0; item < side->n_pieces; item++) sum += side->pieces[item].squares; /* in one order */
    const real factor = plan->step->largest_norm / (sqrt(sum) + 1e-6);
    if (factor >= 1) return;
    for (long item = 0; item < side->n_pieces; item++)
        for (int which = 0; which < 4; which++) {
            const Part part = part_of(&side->pieces[item], which);
            for (long i = 0; i < part.n; i++) side->adam.gradients[part.parameters - side->adam.values + i] *= factor;
        }
}

static void share_out_pieces(Plan *plan, Side *side, Work work) {
    plan->side = side;
    share_out(plan->step->n_threads, work, plan, side->n_pieces);
}

/* A step of one optimiser, after the rows. */
static void take_step(Plan *plan, Side *side) {
    for (long i = 0; i < side->adam.n_steps; i++) side->adam.steps[i] += 1;
    if (plan->step->largest_norm < 0) {
        share_out_pieces(plan, side, gradients_and_step);
    } else {
        share_out_pieces(plan, side, make_gradients);
        clip(plan, side);
        share_out_pieces(plan, side, follow_gradients);
    }
}

static double mean_of(const real *values, long n, long of) {
    double sum = 0;
    for (long i = 0; i < n; i++) sum += values[i];
    return sum / of;
}

/* --- what Python calls --- */

void plan_free(Plan *plan);

/* A plan for batches of n, from networks, optimisers and sizes; NULL without memory for it. */
Plan *plan_new(const Plan *given) {
    Plan *plan = malloc(sizeof *plan);
    if (!plan) return NULL;
    *plan = *given;
    plan->width = rounded_up(plan->width, 2 * WORDS); /* whole rows of words */
    plan->n_blocks = (plan->n + plan->width - 1) / plan->width;
    choose_pairs(&plan->actor), choose_pairs(&plan->actor_target);
    for (int c = 0; c < plan->n_critics; c++) {
        choose_pairs(&plan->critics[c]);
        if (!plan->is_joint) choose_pairs(&plan->critics_target[c]);
    }
    const size_t size = in_vectors(lay_out(plan, NULL)) * sizeof(real);
    cut_all(plan);
    plan->memory = new_memory(size);
    plan->of_actor.pieces = malloc(plan->of_actor.n_pieces * sizeof(Piece));
    plan->of_critics.pieces = malloc(plan->of_critics.n_pieces * sizeof(Piece));
    if (!plan->memory || !plan->of_actor.pieces || !plan->of_critics.pieces) {
        plan_free(plan);
        return NULL;
    }
    memset(plan->memory, 0, size);
    lay_out(plan, plan->memory);
    cut_all(plan);
    return plan;
}

void plan_free(Plan *plan) {
    free(plan->memory), free(plan->of_actor.pieces), free(plan->of_critics.pieces), free(plan);
}

void plan_update(Plan *plan, Step *step) {
    const unsigned before = flush_denormals();
    plan->step = step;
    if (ROUNDS) share_out_pieces(plan, &plan->of_critics, round_all_weights), share_out_pieces(plan, &plan->of_actor, round_all_weights);
    const int in_stages = is_in_stages(plan);
    if (in_stages)
        critics_in_stages(plan);
    else
        share_out(step->n_threads, critic_block, plan, plan->n_blocks);
    step->critic_loss = mean_of(plan->losses, plan->n_critics * plan->n, plan->n);
    take_step(plan, &plan->of_critics);
    if (step->updates_actor) {
        if (in_stages)
            actor_in_stages(plan);
        else
            share_out(step->n_threads, actor_block, plan, plan->n_blocks);
        step->actor_loss = mean_of(plan->losses, plan->n, plan->n);
        take_step(plan, &plan->of_actor);
    } else if (step->updates_targets) {
        share_out_pieces(plan, &plan->of_actor, move_targets);
    }
    restore_denormals(before);
}

/* Actions for n observations, in [-1, 1], or in units where these are wanted: then 0 is returned if an observation is not finite. */
int act(const Acting *acting, long n, int in_units) {
    const Network *network = &acting->network;
    if (n == 1)
        act_on_one(network, acting->observations, acting->memory, acting->half, acting->actions);
    else
        act_on_block(network, acting->observations, n, acting->memory, acting->half, acting->actions);
    if (in_units) to_units(acting, n, network->layers[network->n_layers - 1].n_out);
    return !in_units || are_finite(acting->observations, n * network->layers[0].n_in);
}

/* For the caller, to see that both mean the same by them. */
long size_of_plan(void) { return sizeof(Plan); }
long size_of_step(void) { return sizeof(Step); }
long size_of_acting(void) { return sizeof(Acting); }

/* Whether Linux lets this process have the tiles of AMX, for good. */
static int has_tiles(void) {
#if defined __x86_64__ && defined __linux__
    enum { REQUEST_PERMISSION = 0x1023, TILES = 18, BF16_AND_TILES = 1 << 22 | 1 << 24 };
    unsigned a, b, c, d;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (d & BF16_AND_TILES) != BF16_AND_TILES) return 0;
    return syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILES) == 0;
#else
    return 0;
#endif
}

/*
 * How this processor multiplies pairs of bfloat16 faster than single floats: 1 in vectors, 2 in tiles, 3 in both ways, 0 in none.
 * Some of Intel's have the instruction for vectors, too, at a quarter of that rate.
 */
int ways_to_round(void) {
#if defined __x86_64__
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx512bf16")) return 0;
    return 2 * has_tiles() + (__builtin_cpu_is("amd") != 0);
#else
    return 0;
#endif
}

/* The first of Python's LEVELS that this processor has. */
int best_level(void) {
#if defined __x86_64__
    __builtin_cpu_init();
    const int has_avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
                           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw");
    return has_avx512 ? 0 : __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? 1 : 2;
#else
    return 2;
#endif
}
