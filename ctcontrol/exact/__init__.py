"""Problems whose answers are known exactly: the ground truth of tests and validation.

Each room is one family. The generic code never imports them.

*   `lq`: linear-quadratic control.
*   `exploratory_lq`: the same in one dimension with a volatility that the action controls.
*   `portfolio`: mean-variance and logarithmic utility, where the action is an investment.
*   `tilt`: diffusion models of Gaussian and mixture data, tilted by a quadratic reward, for four
    forward processes and samplers with any noise or none.
*   `ou`: the Ornstein–Uhlenbeck process with polynomial rewards.
*   `hopf_cole`: control whose cost matches the noise, with many modes.
*   `cqsm`: linear-quadratic control of actions that diffuse.
"""
