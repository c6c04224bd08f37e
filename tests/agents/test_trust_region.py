"""Steps in a KL ball: known answers, a general solver's answers, numpy's, and inputs without any direction.

`x` is the step, minus the direction that the functions return: min g.x subject to c + b.x <= 0 and x.H.x / 2 <= delta.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from numpy.testing import assert_allclose, assert_array_equal
from scipy import optimize

from mjx_safety.agents import distributions, networks, second_order, trust_region
from mjx_safety.agents.second_order import LineSearchConfig, PolicyProblem, Surrogates
from mjx_safety.agents.types import Gaussian

pytestmark = pytest.mark.usefixtures("strict_ranks")

H, G = jnp.array([1.0, 2.0, 4.0]), jnp.array([1.0, 1.0, -1.0])  # H is diagonal

ROWS = [  # b, c, delta, case, r, A, B, multiplier, nu, x, c + b.x, KL
    ((0.5, -1, 2), -0.5, 0.01, 3, -0.5, 1.607143, -0.122857, 9.354143, 0, (-0.106904, -0.053452, 0.026726), -0.446548),
    ((0.5, -1, 2), -0.1, 0.01, 2, -0.5, 1.607143, 0.014286, 9.354143, 0, (-0.106904, -0.053452, 0.026726), -0.046548),
    ((0.5, -1, 2), 0.1, 0.01, 1, -0.5, 1.607143, 0.014286, 10.606602, 0.891806, (-0.136321, -0.005100, -0.018470), 0),
    ((0.5, -1, 2), 0.5, 0.01, 0, -0.5, 1.607143, -0.122857, 0, 0.106904, (-0.053452, 0.053452, -0.053452), 0.312917),
    ((-0.5, -1, 2), -0.05, 0.01, 2, -1.5, 0.464286, 0.018571, 5, 0.714286, (-0.128571, -0.028571, -0.021429), 0),
    ((0.5, 1, 2), -0.05, 0.02, 2, 0.5, 1.607143, 0.038571, 6.614378, 0, (-0.151186, -0.075593, 0.037796), -0.125593),
]
ROW_NAMES = ("b", "c", "delta", "case", "r", "A", "B", "multiplier", "nu", "x", "left")


@pytest.mark.parametrize("row", [dict(zip(ROW_NAMES, row, strict=True)) for row in ROWS], ids=lambda row: str(row["c"]))
def test_cpo_known_answers(row):
    b, c, delta = jnp.array(row["b"], jnp.float32), jnp.float32(row["c"]), row["delta"]
    expected = [row["multiplier"], row["nu"], row["case"]]
    assert_allclose(trust_region.solve_cpo_dual(1.75, row["r"], 1.75, c, delta), expected, rtol=2e-6, atol=1e-6)
    direction, info = trust_region.cpo_direction(lambda v: H * v, G, b, c, delta, num_iterations=3)
    assert_allclose([info.q, info.r, info.s], [1.75, row["r"], 1.75], rtol=2e-6)
    assert_allclose(info.q - info.r**2 / info.s, row["A"], rtol=1e-5)
    assert_allclose(2.0 * delta - c**2 / info.s, row["B"], rtol=1e-4)
    assert_allclose([info.multiplier, info.nu, info.case], expected, rtol=1e-5, atol=1e-6)
    assert_allclose(-direction, row["x"], atol=2e-6)
    assert_allclose(c - b @ direction, row["left"], atol=2e-6)
    assert_allclose(0.5 * direction @ (H * direction), delta, rtol=1e-5)


def random_problems(seed, num, size, parallel):
    """Problems of one size, float64: H of condition up to 50, c such that the ball meets the limit, or does not.

    parallel: g is b times a number of either sign, but for 1 part in 10 to 10^5.
    t = c / sqrt(2 delta s) is the distance of the limit in radii of the ball: beyond -1 or 1 they do not meet.
    """
    rng = np.random.default_rng(seed)
    basis = np.linalg.qr(rng.normal(size=(num, size, size)))[0]
    h = basis * np.exp(rng.uniform(0.0, np.log(50.0), (num, 1, size))) @ basis.transpose(0, 2, 1) * 0.1
    g, b = rng.normal(size=(2, num, size))
    g = rng.normal(size=(num, 1)) * b + 10.0 ** rng.uniform(-5, -1, (num, 1)) * g if parallel else g
    g, b = (x * 10.0 ** rng.uniform(-3.0, 0.5, (num, 1)) for x in (g, b))
    delta = 10.0 ** rng.uniform(-3.0, -1.0, num)
    t = np.where(rng.random(num) < 0.1, 0.0, rng.uniform(-1.5, 1.5, num))
    s = np.einsum("ni,ni->n", b, np.linalg.solve(h, b[..., None])[..., 0])
    return h, g, b, t * np.sqrt(2.0 * delta * s), delta, t


def unit_ball_problem(h, g, b, c, delta):
    """The same in y = L^T x / radius with H = L L^T: min g.y, scaled, subject to b.y <= room and |y| <= 1."""
    lower, radius = np.linalg.cholesky(h), np.sqrt(2.0 * delta)
    g, b = np.linalg.solve(lower, g), np.linalg.solve(lower, b)
    slope, length = np.linalg.norm(g), np.linalg.norm(b)
    return g / slope, b / length, -c / (radius * length), slope * radius


def solve_generally(h, g, b, c, delta):
    """The least g.x by scipy's SLSQP, which knows no duals and no cases; certified by optimality conditions."""
    g, b, room, scale = unit_ball_problem(h, g, b, c, delta)
    constraints = [
        {"type": "ineq", "fun": lambda y: room - b @ y, "jac": lambda y: -b},
        {"type": "ineq", "fun": lambda y: 1.0 - y @ y, "jac": lambda y: -2.0 * y},
    ]
    start = min(room, 0.0) * b - 0.1 * g
    options = {"ftol": 1e-12}
    y = optimize.minimize(lambda y: g @ y, start, (), "SLSQP", lambda y: g, constraints=constraints, options=options).x
    assert b @ y <= room + 1e-6 and y @ y <= 1.0 + 1e-6, "outside"
    binding = [normal for normal, slack in ((b, room - b @ y), (2.0 * y, 1.0 - y @ y)) if slack < 1e-5]
    assert optimize.nnls(np.stack(binding, axis=1), -g)[1] < 1e-5, "not the least"
    return scale * (g @ y)


@pytest.mark.parametrize("parallel", [False, True], ids=["general", "parallel"])
@pytest.mark.parametrize(("size", "num"), [(2, 150), (6, 150), (15, 200)])
def test_cpo_agrees_with_a_general_solver(size, num, parallel):
    """A thousand problems. Errors are relative to the most that the ball allows: of reward, of cost, of KL."""
    h, g, b, c, delta, t = random_problems(size, num, size, parallel)

    @jax.jit
    @jax.vmap
    def solve(h, g, b, c, delta):
        return trust_region.cpo_direction(lambda v: h @ v, g, b, c, delta, num_iterations=2 * size)

    direction, info = solve(*(jnp.asarray(x, jnp.float32) for x in (h, g, b, c, delta)))
    x, case = -np.asarray(direction, np.float64), np.asarray(info.case)
    assert np.all(np.isfinite(x))
    feasible, meets = t < 0.0, np.abs(t) <= 1.0
    expected = np.where(feasible, np.where(meets, 2, 3), np.where(meets, 1, 0))
    assert_array_equal(case, expected)
    assert set(case) == {0, 1, 2, 3}

    kl = 0.5 * np.einsum("ni,nij,nj->n", x, h, x)
    assert np.max(kl / delta) < 1.0 + 1e-4
    most = np.sqrt(2.0 * delta) * np.linalg.norm(np.linalg.solve(np.linalg.cholesky(h), b[..., None])[..., 0], axis=1)
    left = (c + np.einsum("ni,ni->n", b, x)) / most
    assert np.max(left[case != 0]) < 1e-4
    assert_allclose(left[case == 0], (t - 1.0)[case == 0], atol=1e-4)  # the cost falls as far as the ball allows

    scale = np.sqrt(2.0 * delta) * np.linalg.norm(np.linalg.solve(np.linalg.cholesky(h), g[..., None])[..., 0], axis=1)
    error = [
        (g[i] @ x[i] - solve_generally(h[i], g[i], b[i], c[i], delta[i])) / scale[i] for i in np.flatnonzero(case != 0)
    ]
    assert np.max(np.abs(error)) < 1e-4


NOTHING = (0.0, 0.0, 0.0)


@pytest.mark.parametrize("c", [-1.0, -0.05, 0.0, 0.05, 1.0, -np.inf])
@pytest.mark.parametrize(
    ("g", "b"),
    [
        (G, NOTHING),
        (NOTHING, G),
        (NOTHING, NOTHING),
        (G, G),
        (G, -G),
        (G, 3.0 * G),
        (G, 1e-12 * G),
        (1e-12 * G, G),
    ],
    ids=["b=0", "g=0", "both 0", "parallel", "opposed", "parallel 3", "b tiny", "g tiny"],
)
def test_cpo_survives_inputs_without_a_direction(g, b, c):
    """All stays finite and in the ball, the limit is met where the ball reaches it, and nothing is given away."""
    g, b, c, delta = jnp.array(g), jnp.array(b), jnp.float32(c), 0.01
    direction, info = trust_region.cpo_direction(lambda v: H * v, g, b, c, delta, num_iterations=10)
    assert np.all(np.isfinite(direction)) and np.all(np.isfinite([info.multiplier, info.nu, info.q, info.r, info.s]))
    assert 0.5 * direction @ (H * direction) <= delta * (1.0 + 1e-4)
    reach = np.sqrt(2.0 * delta * (b @ (b / H)))
    assert c - b @ direction <= max(0.0, c - reach) + 1e-4 * max(reach, 1e-2)
    if c <= -reach:
        assert_allclose(g @ direction, np.sqrt(2.0 * delta * (g @ (g / H))), rtol=1e-4)  # the best of the whole ball


@pytest.mark.parametrize("c", [-0.05, -1.0])
def test_cpo_without_a_cost_gradient_is_a_natural_step(c):
    """Case 4, at any scale below the threshold."""
    natural, _ = trust_region.natural_step(G / H, lambda v: H * v, 0.01)
    for b in (jnp.zeros(3), jnp.full(3, 1e-5)):
        direction, info = trust_region.cpo_direction(lambda v: H * v, G, b, jnp.float32(c), 0.01, num_iterations=3)
        assert info.case == 4 and info.nu == 0.0
        assert_allclose(info.multiplier, np.sqrt(1.75 / 0.02), rtol=1e-5)
        assert_allclose(direction, natural, rtol=1e-5)


def ill_conditioned(size=20):
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.normal(size=(size, size)))[0]
    return basis * np.geomspace(1e-3, 1e3, size) @ basis.T, rng.normal(size=size), rng.normal(size=size)


@pytest.mark.parametrize("c", [-0.5, -0.01, 0.01, 0.5])
def test_cpo_is_consistent_where_conjugate_gradients_are_not_done(c):
    """Three products for a matrix of condition 1e6: q s >= r^2 and the KL of the step hold all the same."""
    matrix, g, b = (jnp.asarray(x, jnp.float32) for x in ill_conditioned())
    fvp = lambda v: matrix @ v  # noqa: E731
    v = trust_region.conjugate_gradient(fvp, g, 3)
    assert np.linalg.norm(fvp(v) - g) > 0.1 * np.linalg.norm(g), "solved, so that this test shows nothing"
    direction, info = trust_region.cpo_direction(fvp, g, b, jnp.float32(c), 0.01, num_iterations=3)
    assert info.q * info.s >= info.r**2 * (1.0 - 1e-5)
    assert_allclose(0.5 * direction @ fvp(direction), 0.01, rtol=1e-3)


def spd(size, condition, seed=1):
    rng = np.random.default_rng(seed)
    basis = np.linalg.qr(rng.normal(size=(size, size)))[0]
    return basis * np.geomspace(1.0, condition, size) @ basis.T, rng.normal(size=size)


@pytest.mark.parametrize("scale", [1.0, 1e-6, 1e-12, 1e6])
@pytest.mark.parametrize("num_iterations", [16, 100])
def test_conjugate_gradient_solves(scale, num_iterations):
    """At any scale, and going on after the end does no harm."""
    matrix, b = spd(8, condition=30.0)
    fvp = lambda v: jnp.asarray(matrix, jnp.float32) @ v  # noqa: E731
    x = trust_region.conjugate_gradient(fvp, jnp.asarray(scale * b, jnp.float32), num_iterations)
    solution = np.linalg.solve(matrix, scale * b)
    assert np.linalg.norm(x - solution) < 1e-4 * np.linalg.norm(solution)


def test_conjugate_gradient_improves_with_every_product():
    matrix, b = spd(8, condition=100.0)
    fvp = lambda v: jnp.asarray(matrix, jnp.float32) @ v  # noqa: E731
    solution = np.linalg.solve(matrix, b)
    errors = [
        np.asarray(trust_region.conjugate_gradient(fvp, jnp.asarray(b, jnp.float32), n)) - solution for n in range(8)
    ]
    in_energy = [error @ matrix @ error for error in errors]
    assert np.all(np.diff(in_energy) < 0.0)
    assert_allclose(in_energy[0], solution @ b, rtol=1e-5)  # it starts from 0


def test_conjugate_gradient_of_nothing_is_nothing():
    assert_array_equal(trust_region.conjugate_gradient(lambda v: H * v, jnp.zeros(3), 10), np.zeros(3))


@pytest.fixture
def policy():
    """A small policy as a function of a flat vector, at a point with a different deviation in each action."""
    nets = networks.make_networks((5,), init_log_std=-0.5)
    params = nets.init(jax.random.key(3), 3, 2).policy
    params["log_std"] = jnp.array([-0.5, 0.3])
    theta, unravel = ravel_pytree(params)
    theta = theta + 0.3 * jax.random.normal(jax.random.key(4), theta.shape)  # the mean depends on the observation now
    obs = jax.random.normal(jax.random.key(5), (40, 3))
    return lambda theta: nets.policy(unravel(theta), obs), theta


def mean_kl(policy_fn, old, theta):
    return jnp.mean(distributions.kl(old, policy_fn(theta)))


def test_fisher_vector_product_is_the_hessian_of_the_kl(policy):
    policy_fn, theta = policy
    slope = jax.grad(partial(mean_kl, policy_fn, policy_fn(theta)))
    assert np.max(np.abs(slope(theta))) < 1e-6
    for key in jax.random.split(jax.random.key(6), 3):
        v = jax.random.normal(key, theta.shape)
        product = trust_region.fisher_vector_product(policy_fn, theta, v, damping=0.0)
        scale = np.linalg.norm(product)
        exact = jax.jvp(slope, (theta,), (v,))[1]
        assert np.linalg.norm(product - exact) < 1e-4 * scale
        step = 1e-2 / np.linalg.norm(v)
        difference = (slope(theta + step * v) - slope(theta - step * v)) / (2.0 * step)
        assert np.linalg.norm(product - difference) < 1e-3 * scale
        damped = trust_region.fisher_vector_product(policy_fn, theta, v, damping=0.1)
        assert_allclose(damped, product + 0.1 * v, rtol=1e-4, atol=1e-5)


def test_fisher_matrix_is_that_of_the_scores(policy):
    """Mean of the outer products of the scores, over many actions."""
    policy_fn, theta = policy

    def log_probs(theta, action):
        return distributions.log_prob(policy_fn(theta), action)

    @jax.jit
    def outer(key):
        dist = policy_fn(theta)
        scores = jax.jacobian(log_probs)(theta, distributions.sample(dist, jax.random.normal(key, dist.mean.shape)))
        return scores.T @ scores / scores.shape[0]

    estimate = np.mean([outer(key) for key in jax.random.split(jax.random.key(7), 400)], axis=0)
    product = partial(trust_region.fisher_vector_product, policy_fn, theta, damping=0.0)
    matrix = jax.vmap(product)(jnp.eye(theta.shape[0]))
    assert_allclose(matrix, matrix.T, atol=1e-5)
    assert np.linalg.eigvalsh(matrix).min() > -1e-5
    assert np.linalg.norm(estimate - matrix) < 0.05 * np.linalg.norm(matrix)


def test_the_fisher_matrix_sees_every_world_at_all_times(key):
    """16 worlds of 64 steps, one sample of 4: 16 of each world, of each time about 4, other ones with another key."""
    world, time = jnp.divmod(jnp.arange(16 * 64), 64)
    obs = jnp.stack([world, time], axis=1).astype(jnp.float32)
    few = np.asarray(second_order.pick_samples(obs, key, 4))
    assert_array_equal(np.unique(few[:, 0], return_counts=True)[1], np.full(16, 16))
    times, counts = np.unique(few[:, 1], return_counts=True)
    assert len(times) > 60 and counts.max() < 12
    assert_array_equal(few[:, 1] // 4, np.tile(np.arange(16.0), 16))
    assert np.any(few != second_order.pick_samples(obs, jax.random.key(1), 4))
    assert_array_equal(second_order.pick_samples(obs, key, 1), obs)
    assert second_order.pick_samples(obs[:3], key, 4).shape == (1, 2)


def test_natural_step_lies_on_the_ball():
    for scale in (1.0, 1e-6):
        step, q = trust_region.natural_step(scale * G / H, lambda v: H * v, 0.01)
        assert_allclose(q, 1.75 * scale**2, rtol=1e-5)
        assert_allclose(0.5 * step @ (H * step), 0.01, rtol=1e-5)
        assert_allclose(step, np.sqrt(0.02 / 1.75) * G / H, rtol=1e-5)
    step, q = trust_region.natural_step(jnp.zeros(3), lambda v: H * v, 0.01)
    assert q == 0.0 and np.all(step == 0.0)


@pytest.mark.parametrize("t", [-2.0, -1.0, -0.3, 0.0, 0.3, 1.0, 2.0])
def test_pcpo_projects_in_kl(t):
    """Against the projection's own optimality conditions, a linear system. t: violation in radii of the ball."""
    matrix, g = spd(5, condition=20.0, seed=2)
    b, delta = np.random.default_rng(3).normal(size=5), 0.01
    c = t * np.sqrt(2.0 * delta * (b @ np.linalg.solve(matrix, b)))
    x = -np.sqrt(2.0 * delta / (g @ np.linalg.solve(matrix, g))) * np.linalg.solve(matrix, g)
    if c + b @ x > 0.0:
        system = np.block([[matrix, b[:, None]], [b[None], np.zeros((1, 1))]])
        x = np.linalg.solve(system, np.append(matrix @ x, -c))[:5]
    fvp = lambda v: jnp.asarray(matrix, jnp.float32) @ v  # noqa: E731
    direction = trust_region.pcpo_direction(fvp, *(jnp.asarray(y, jnp.float32) for y in (g, b, c)), delta, 20)
    assert_allclose(-direction, x, rtol=1e-3, atol=1e-3 * np.linalg.norm(x))
    assert c - b @ np.asarray(direction) < 1e-5


def test_pcpo_without_gradients_stays_finite():
    zero, fvp = jnp.zeros(3), lambda v: H * v
    assert_array_equal(trust_region.pcpo_direction(fvp, zero, zero, jnp.float32(0.1), 0.01, 5), zero)
    natural, _ = trust_region.natural_step(G / H, fvp, 0.01)
    for c in (-np.inf, -0.1, 0.1):
        assert_allclose(trust_region.pcpo_direction(fvp, G, zero, jnp.float32(c), 0.01, 5), natural, rtol=1e-5)


THETA = jnp.array([0.1, -0.3, 1e-9])


@pytest.mark.parametrize(("longest", "share"), [(2.0, 1.0), (1.0, 1.0), (0.5, 0.8**4), (0.8**9, 0.8**9)])
def test_line_search_takes_the_first_that_is_accepted(longest, share):
    def accept(theta):
        length = jnp.linalg.norm(theta - THETA) / jnp.sqrt(3.0)
        return length <= longest + 1e-6, {"length": length}

    theta, taken, reported = jax.jit(
        lambda: trust_region.line_search(THETA, jnp.ones(3), accept, num_backtracks=10, factor=0.8)
    )()
    assert_allclose([taken, reported["length"]], share, rtol=1e-5)
    assert_allclose(theta, THETA - share, rtol=1e-5)


@pytest.mark.parametrize("longest", [0.8**10, np.nan])
def test_line_search_without_success_gives_theta_back(longest):
    """One length too few, or nothing comparable: not a bit of theta changes."""
    accept = lambda theta: (jnp.max(THETA - theta) <= longest, {})  # noqa: E731
    theta, taken, _ = trust_region.line_search(THETA, jnp.ones(3), accept, num_backtracks=10, factor=0.8)
    assert_array_equal(theta, THETA)
    assert taken == 0.0


def test_line_search_survives_a_direction_that_is_not_finite():
    accept = lambda theta: (jnp.max(jnp.abs(theta)) < 10.0, {})  # noqa: E731
    theta, taken, _ = trust_region.line_search(THETA, jnp.full(3, jnp.nan), accept, num_backtracks=10, factor=0.8)
    assert_array_equal(theta, THETA)
    assert taken == 0.0


@pytest.mark.parametrize("broken", ["reward", "costs", "kl"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_search_rejects_what_is_not_finite(broken, value):
    """Steps longer than 0.6 give no finite surrogates; the first below is 0.8^3."""

    def evaluate(theta):
        fine = Surrogates(reward=jnp.float32(1.0), costs=jnp.zeros(2), kl=jnp.float32(0.001))
        bad = fine.replace(**{broken: jnp.full_like(getattr(fine, broken), value)})
        too_long = THETA[0] - theta[0] > 0.6
        return jax.tree.map(lambda a, b: jnp.where(too_long, a, b), bad, fine)

    problem = PolicyProblem(THETA, evaluate, lambda v: v)
    theta, metrics = second_order.search(LineSearchConfig(), problem, jnp.ones(3), lambda found: jnp.bool_(True))
    assert_allclose(metrics["step_share"], 0.8**3, rtol=1e-6)
    assert_allclose(theta, THETA - 0.8**3, rtol=1e-5)
    assert_allclose(metrics["kl"], 0.001)


def test_search_rejects_what_lies_outside_of_the_ball():
    def evaluate(theta):
        distance = Gaussian(theta, jnp.zeros(3))
        kl = distributions.kl(Gaussian(THETA, jnp.zeros(3)), distance)
        return Surrogates(reward=jnp.float32(1.0), costs=jnp.zeros(1), kl=kl)

    problem = PolicyProblem(THETA, evaluate, lambda v: v)
    config = LineSearchConfig(max_kl=0.5)  # of a step of share s: 3 s^2 / 2
    _, metrics = second_order.search(config, problem, jnp.ones(3), lambda found: jnp.bool_(True))
    assert_allclose(metrics["step_share"], 0.8**3, rtol=1e-6)  # 0.8^2 would be 0.61
    assert_allclose(metrics["kl"], 1.5 * 0.8**6, rtol=1e-5)
    theta, metrics = second_order.search(config, problem, 1e3 * jnp.ones(3), lambda found: jnp.bool_(True))
    assert_array_equal(theta, THETA)
    assert metrics["step_share"] == metrics["kl"] == 0.0
