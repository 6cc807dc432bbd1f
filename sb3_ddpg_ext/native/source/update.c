/* A gradient step of DDPG: Algorithm 1 of Lillicrap et al. (2016), arXiv 1509.02971, and the additions of TD3. */
#include <stdlib.h>

#include "act.h"
#include "adam.h"
#include "network.h"
#include "pool.h"

enum { MAX_CRITICS = 16, UNITS = 48, LARGE = 64, HUBER = 1, MEAN = 1 };

/* A minibatch and the settings of its update, by the caller; and what comes out. */
typedef struct {
    const real *observations, *actions, *next_observations, *rewards, *dones, *discounts;
    const real *weights;   /* (n) of each transition's loss; NULL for 1 */
    const real *smoothing; /* (n, action_dim), noise on the next actions; NULL for none */
    long observations_row, actions_row, next_observations_row, rewards_row, dones_row, discounts_row;
    double tau, largest_norm, lowest, highest, reward_factor, action_l2;
    int loss, backup, updates_actor, updates_targets, n_threads;
    real *errors; /* (n), the largest of the critics' on each transition; NULL if they are not wanted */
    double critic_loss, actor_loss;
} Step;

/* Units [first, last) of a layer, for which one thread makes the gradients and takes the step. */
typedef struct {
    Layer *layer, *target;
    const real *const *x; /* the layer's input, which is there when the plan has its memory */
    long x_row, first, last;
    const int *groups; /* of weight, bias and those of the norm: which group of the optimiser they are in */
    double squares;    /* sum of its squared gradients */
} Piece;

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
    long n, n_obs, n_actions;
    long width; /* transitions in a block, a multiple of V; no number depends on it */

    long n_blocks, x_row;
    real *x;                      /* (n, x_row): observations and actions, a row for each transition */
    real *columns, *next_columns; /* (blocks, n_obs + n_actions, width): the same, and what follows */
    real *losses;                 /* (n_critics, n) */
    real *memory;
    Step *step;
    Side *side; /* whose pieces are worked on */
} Plan;

/* --- memory --- */

static size_t in_vectors(size_t n) { return (n + V - 1) / V * V; }

/* Give a network its memory, or count what it will need where `memory` is NULL. Returns where it ends. */
static size_t lay_out_network(const Plan *plan, Network *network, int learns, real *memory, size_t at) {
    const size_t columns = plan->n_blocks * plan->width;
    for (Layer *layer = network->layers; layer <= last_of(network); layer++) {
        const int norm = layer->norm_weight != NULL, pairs = layer->in_pairs;
        const size_t size = layer->n_out * columns;
        layer->row = row_length(layer->n_out);
        struct { real **what; size_t size; } parts[] = {
            {&layer->outputs, size}, {&layer->before, needs_input(layer) ? size : 0}, {&layer->standardised, norm ? size : 0},
            {&layer->rstd, norm ? columns : 0}, {&layer->gradient, learns ? size : 0},
            {&layer->norm_gradient, learns && norm ? size : 0},
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
    for (Layer *layer = network->layers + 1; layer <= last_of(network); layer++)
        layer->in_pairs = ROUNDS && layer->n_in >= LARGE && layer->n_out >= LARGE;
}

static size_t lay_out(Plan *plan, real *memory) {
    size_t at = 0;
    at = lay_out_network(plan, &plan->actor, 1, memory, at);
    at = lay_out_network(plan, &plan->actor_target, 0, memory, at);
    for (int c = 0; c < plan->n_critics; c++) {
        at = lay_out_network(plan, &plan->critics[c], 1, memory, at);
        at = lay_out_network(plan, &plan->critics_target[c], 0, memory, at);
    }
    const size_t columns = plan->n_blocks * plan->width, n_inputs = plan->n_obs + plan->n_actions;
    plan->x_row = row_length(n_inputs);
    struct { real **what; size_t size; } parts[] = {
        {&plan->x, columns * plan->x_row}, {&plan->columns, columns * n_inputs}, {&plan->next_columns, columns * n_inputs},
        {&plan->losses, plan->n_critics * columns},
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
        for (long first = 0; first < layer->n_out; first += UNITS, n++) {
            const long last = layer->n_out < first + UNITS ? layer->n_out : first + UNITS;
            if (to)
                to[n] = (Piece){layer, &target->layers[l], l ? (const real *const *)&layer[-1].rows : (const real *const *)&plan->x,
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
        critics->n_pieces += cut(plan, &plan->critics[c], &plan->critics_target[c], plan->critic_groups[c],
                                 critics->pieces ? critics->pieces + critics->n_pieces : NULL);
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

static Block block_of(const Plan *plan, long item) {
    const long first = item * plan->width, n = plan->n - first < plan->width ? plan->n - first : plan->width;
    return (Block){item, plan->width, n, rounded_up(n, V)};
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

/* y = r + gamma (1 - d) Q'(s', a'), with the smallest of the critics' values, or their mean. */
static real target_of(Plan *plan, Block block, long j) {
    const Step *step = plan->step;
    const long i = block.number * block.width + j;
    real value = 0;
    for (int c = 0; c < plan->n_critics; c++) {
        const Layer *last = last_of(&plan->critics_target[c]);
        const real q = of_block(last->outputs, last, block)[j];
        value = c == 0 ? q : step->backup == MEAN ? value + q : q < value || q != q ? q : value;
    }
    if (step->backup == MEAN) value /= plan->n_critics;
    const real discount = (1 - step->dones[i * step->dones_row]) * step->discounts[i * step->discounts_row];
    const real y = step->rewards[i * step->rewards_row] * (real)step->reward_factor + discount * value;
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

/* The critics' losses on a block, and their gradients down to each layer. */
static void critic_block(void *context, long item) {
    Plan *plan = context;
    const Step *step = plan->step;
    const Block block = block_of(plan, item);
    const long first = block.number * block.width, begin = first * (plan->n_obs + plan->n_actions);
    take(plan, block);
    forward(&plan->actor_target, plan->next_columns + begin, block);
    next_actions(plan, block);
    for (int c = 0; c < plan->n_critics; c++) {
        forward(&plan->critics_target[c], plan->next_columns + begin, block);
        forward(&plan->critics[c], plan->columns + begin, block);
    }
    for (long j = 0; j < block.n; j++) {
        const long i = first + j;
        const real y = target_of(plan, block, j), weight = step->weights ? step->weights[i] : 1;
        for (int c = 0; c < plan->n_critics; c++) {
            Layer *q = last_of(&plan->critics[c]);
            const real error = of_block(q->outputs, q, block)[j] - y, size = error < 0 ? -error : error;
            real derivative;
            plan->losses[c * plan->n + i] = weight * loss_of(step, error, &derivative);
            of_block(q->gradient, q, block)[j] = weight * derivative / plan->n;
            if (step->errors) step->errors[i] = c == 0 || size > step->errors[i] || size != size ? size : step->errors[i];
        }
    }
    for (int c = 0; c < plan->n_critics; c++) {
        backward(&plan->critics[c], block, NULL, 0, 0);
        keep_rows(&plan->critics[c], block);
    }
}

/* Q(s, mu(s)) on a block, and the gradients of -Q through the actor. */
static void actor_block(void *context, long item) {
    Plan *plan = context;
    const Step *step = plan->step;
    const Block block = block_of(plan, item);
    const long first = block.number * block.width;
    real *columns = plan->columns + first * (plan->n_obs + plan->n_actions);
    Layer *mu = last_of(&plan->actor), *q = last_of(&plan->critics[0]);
    const real *actions = of_block(mu->outputs, mu, block);
    forward(&plan->actor, columns, block);
    memcpy(columns + plan->n_obs * block.width, actions, plan->n_actions * block.width * sizeof(real));
    forward(&plan->critics[0], columns, block);
    for (long j = 0; j < block.n; j++) {
        plan->losses[first + j] = -of_block(q->outputs, q, block)[j];
        of_block(q->gradient, q, block)[j] = -(real)1 / plan->n;
    }
    real *gradient = of_block(mu->gradient, mu, block);
    backward(&plan->critics[0], block, gradient, plan->n_obs, plan->n_actions);
    for (long k = 0; step->action_l2 && k < plan->n_actions; k++)
        for (long j = 0; j < block.n; j++) {
            const real action = actions[k * block.width + j];
            plan->losses[first + j] += step->action_l2 / plan->n_actions * action * action;
            gradient[k * block.width + j] += 2 * step->action_l2 / (plan->n * plan->n_actions) * action;
        }
    backward(&plan->actor, block, NULL, 0, 0);
    keep_rows(&plan->actor, block);
}

static void make_gradients(void *context, long item) {
    const Plan *plan = context;
    Piece *piece = &plan->side->pieces[item];
    const Layer *layer = piece->layer;
    const Adam *adam = &plan->side->adam;
    real *const own[] = {layer->weight, layer->bias, layer->norm_weight, layer->norm_bias}, *to[4] = {NULL};
    for (int which = 0; which < 4; which++)
        if (own[which]) to[which] = adam->gradients + (own[which] - adam->values);
    parameter_gradients(layer, *piece->x, piece->x_row, plan->n, plan->width, piece->first, piece->last,
                        (Gradients){to[0], to[1], to[2], to[3]});
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
    if (learns) pair_rows(weights, layer->n_in, n, layer->n_in, layer->weight_columns + first / 2 * layer->n_in, layer->n_in);
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
    plan->n_blocks = (plan->n + plan->width - 1) / plan->width;
    choose_pairs(&plan->actor), choose_pairs(&plan->actor_target);
    for (int c = 0; c < plan->n_critics; c++) choose_pairs(&plan->critics[c]), choose_pairs(&plan->critics_target[c]);
    const size_t size = in_vectors(lay_out(plan, NULL)) * sizeof(real);
    cut_all(plan);
    plan->memory = aligned_alloc(BYTES, size);
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
    share_out(step->n_threads, critic_block, plan, plan->n_blocks);
    step->critic_loss = mean_of(plan->losses, plan->n_critics * plan->n, plan->n);
    take_step(plan, &plan->of_critics);
    if (step->updates_actor) {
        share_out(step->n_threads, actor_block, plan, plan->n_blocks);
        step->actor_loss = mean_of(plan->losses, plan->n, plan->n);
        take_step(plan, &plan->of_actor);
    } else if (step->updates_targets) {
        share_out_pieces(plan, &plan->of_actor, move_targets);
    }
    restore_denormals(before);
}

void act(const Network *network, const real *observations, long n, real *memory, long half, real *actions) {
    act_on_rows(network, observations, n, memory, half, actions);
}

/* For the caller, to see that both mean the same by them. */
long size_of_plan(void) { return sizeof(Plan); }
long size_of_step(void) { return sizeof(Step); }

/*
 * Whether this processor multiplies pairs of bfloat16 as fast as single floats. Some of Intel's have the instruction, too, at a
 * quarter of that rate.
 */
int rounds_well(void) {
#if defined __x86_64__
    __builtin_cpu_init();
    return __builtin_cpu_is("amd") && __builtin_cpu_supports("avx512bf16");
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
