using System;
using System.Collections.Generic;
using System.Linq;
using System.Linq.Expressions;
using System.Threading.Tasks;

// Generics, delegates made at run time, exceptions and threads for Mono's compiler; the same lines come out whatever
// it optimizes.
interface IShape { double Area(); }
class Square : IShape { public double Side; public double Area() { return Side * Side; } }
struct Strip : IShape { public double Length; public double Area() { return 2 * Length; } }

static class Work {
    static double Total<T>(IEnumerable<T> shapes) where T : IShape {
        double sum = 0;
        foreach (var s in shapes)
            sum += s.Area();
        return sum;
    }

    static Func<int, int> Made(int round) {
        var a = Expression.Parameter(typeof(int), "a");
        var body = Expression.Add(Expression.Multiply(a, Expression.Constant(round + 3)),
                                  Expression.Modulo(a, Expression.Constant(round + 1)));
        return Expression.Lambda<Func<int, int>>(body, a).Compile();
    }

    static int Raises(int n) {
        int caught = 0;
        for (int i = 0; i < n; i++) {
            try {
                caught += 10 / (i % 3);
            } catch (DivideByZeroException) {
                caught += 7;
            }
            try {
                object none = i % 2 == 0 ? null : "x";
                caught += none.GetHashCode() == 0 ? 1 : 2;
            } catch (NullReferenceException) {
                caught += 11;
            }
        }
        return caught;
    }

    static int Steps(long n) {
        int steps = 0;
        for (; n != 1; steps++)
            n = (n & 1) != 0 ? checked(3 * n + 1) : n >> 1;
        return steps;
    }

    static void Main(string[] args) {
        for (int round = 0; round < int.Parse(args[0]); round++) {
            var squares = Enumerable.Range(0, 2000).Select(i => new Square { Side = i + round }).ToList();
            var strips = Enumerable.Range(0, 2000).Select(i => new Strip { Length = i * 0.5 }).ToArray();
            var made = Made(round);
            long sum = 0;
            for (int i = 0; i < 20000; i++)
                sum += made(i);
            var parts = new long[8];
            Parallel.For(0, parts.Length, p => {
                for (int i = 1 + p; i < 4000; i += parts.Length)
                    parts[p] += Steps(i);
            });
            var words = Enumerable.Range(0, 3000).GroupBy(i => "w" + i * 7919 % 1009).OrderBy(g => g.Key, StringComparer.Ordinal);
            Console.WriteLine("{0} {1} {2} {3} {4} {5} {6}", round, Total(squares), Total(strips), sum, parts.Sum(),
                              Raises(300), string.Join(",", words.Take(3).Select(g => g.Key + g.Count())));
        }
    }
}
