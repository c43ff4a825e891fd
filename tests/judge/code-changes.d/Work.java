import java.util.ArrayList;
import java.util.Collections;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.IntStream;

/** Makes the JVM compile, inline, deoptimize and recompile on several threads. Everything has a known answer. */
public class Work {
    interface Shape {
        double area();
    }

    record Square(double side) implements Shape {
        public double area() {
            return side * side;
        }
    }

    record Strip(double length) implements Shape {
        public double area() {
            return 2 * length;
        }
    }

    static double total(List<Shape> shapes) {
        double sum = 0;
        for (Shape s : shapes)
            sum += s.area();
        return sum;
    }

    static void check(boolean ok, String what) {
        if (!ok)
            throw new IllegalStateException(what);
    }

    /** One kind of shape at first, so that area() is inlined; then two, so that this was wrong. */
    static void shapes(int round) {
        List<Shape> shapes = new ArrayList<>();
        for (int i = 0; i < 1000; i++)
            shapes.add(new Square(i % 10));
        for (int i = 0; i < 50; i++)
            check(total(shapes) == 28500, "squares");
        for (int i = 0; i < 1000; i++)
            shapes.set(i, i % 2 == 0 ? new Strip(i % 10) : shapes.get(i));
        check(total(shapes) == 4000 + 16500, "strips " + total(shapes));
    }

    static int nulls(Object[] a) {
        int n = 0;
        for (Object o : a) {
            try {
                n += o.hashCode() & 0;
            } catch (NullPointerException e) { /* a fault in compiled code */
                n++;
            }
        }
        return n;
    }

    static void thread(int seed, int rounds, int[] failed) {
        try {
            for (int round = 0; round < rounds; round++) {
                shapes(round);
                Map<String, Integer> counts = new HashMap<>();
                for (int i = 0; i < 20000; i++)
                    counts.merge("k" + (i * 31 + seed) % 997, 1, Integer::sum);
                check(counts.values().stream().mapToInt(Integer::intValue).sum() == 20000, "map");
                Object[] some = new Object[500];
                for (int i = 0; i < some.length; i += 2)
                    some[i] = i;
                check(nulls(some) == 250, "nulls");
                List<Integer> list = new ArrayList<>(IntStream.range(0, 20000).map(i -> i * 7919 % 20011).boxed().toList());
                Collections.sort(list);
                for (int i = 1; i < list.size(); i++)
                    check(list.get(i - 1) < list.get(i), "sort");
            }
        } catch (Throwable e) {
            e.printStackTrace();
            failed[seed] = 1;
        }
    }

    public static void main(String[] args) throws InterruptedException {
        int rounds = Integer.parseInt(args[0]);
        int[] failed = new int[3];
        List<Thread> threads = new ArrayList<>();
        for (int i = 0; i < failed.length; i++) {
            int seed = i;
            threads.add(new Thread(() -> thread(seed, rounds, failed)));
        }
        threads.forEach(Thread::start);
        for (Thread t : threads)
            t.join();
        if (IntStream.of(failed).sum() > 0)
            System.exit(1);
        System.out.println("all as expected");
    }
}
