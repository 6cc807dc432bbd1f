"""Names of inputs and outputs in every format."""

OBSERVATION, ACTION, PREVIOUS_REWARD = "observation", "action", "previous_reward"
CELL_STATES = ("state_h", "state_c")  # of an LSTM; a GRU has the first
ACTION_STATE = "state_action"  # the previous action on the [-1, 1] scale
AFTER = "next_"  # before the name of a state: what it is after the step
STATES = (*CELL_STATES, ACTION_STATE)
RESERVED = {OBSERVATION, ACTION, PREVIOUS_REWARD, *STATES, *(AFTER + name for name in STATES)}
