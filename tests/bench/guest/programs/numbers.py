# Floats, big integers, nested loops over lists.
def spectral(n):
    u = [1.0] * n
    for _ in range(2):
        u = [sum(u[j] / ((i + j) * (i + j + 1) // 2 + i + 1) for j in range(n)) for i in range(n)]
    return sum(u)


def pi_digits(n):
    q, r, t, k, m, x, out = 1, 0, 1, 1, 3, 3, 0
    while out < n:
        if 4 * q + r - t < m * t:
            out += 1
            q, r, m = 10 * q, 10 * (r - m * t), (10 * (3 * q + r)) // t - 10 * m
        else:
            q, r, t, k, m, x = q * k, (2 * q + r) * x, t * x, k + 1, (q * (7 * k + 2) + r * x) // (t * x), x + 2
    return m


print('%.9f' % spectral(260), pi_digits(500), hash(3 ** 20000) & 0xffff)
