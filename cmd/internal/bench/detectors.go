package main

import (
	"fmt"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/policy/detect"
	"sallyport.dev/sallyport/policy/detect/corpus"
)

// runDetectors prints how much of a made-up corpus the detectors find, how much
// of what they find is right, and how fast.
func runDetectors(rounds int) {
	samples := corpus.Generate(1, 20_000)
	s := detect.New(detect.Options{Kinds: detect.All})
	score := corpus.Measure(s, samples, nil)
	fmt.Printf("### detectors: %d samples, made up\n\n| kind | precision | recall | right | wrong | missed |\n|---|---:|---:|---:|---:|---:|\n", len(samples))
	line := func(name string, n corpus.Score) {
		if n != (corpus.Score{}) {
			fmt.Printf("| %s | %.3f | %.3f | %d | %d | %d |\n", name, n.Precision(), n.Recall(), n.Right, n.Wrong, n.Missed)
		}
	}
	for k := range detect.All.Each() {
		line(k.String(), score[k])
	}
	line("all", score[0])
	var dense strings.Builder
	for _, x := range samples {
		dense.WriteString(x.Text)
		dense.WriteByte('\n')
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	fmt.Printf("\n| text | MB per second of a processor |\n|---|---:|\n")
	for _, t := range []struct{ name, text string }{
		{"the corpus, where every line has data or looks so", dense.String()},
		{"numbers", strings.Repeat("1042 77 2024-05-17 13.5 105 7200 99881 0.25\n", 30_000)},
		{"prose", strings.Repeat("The patient was well and had no complaints. Plan: continue, review in six weeks.\n", 20_000)},
	} {
		text := []byte(t.text)
		var speeds []float64
		for range max(rounds, 3) {
			began, n := threadTime(), 0
			for threadTime()-began < 300*time.Millisecond {
				s.Scan(text)
				n += len(text)
			}
			speeds = append(speeds, float64(n)/1e6/(threadTime()-began).Seconds())
		}
		fmt.Printf("| %s | %.0f |\n", t.name, median(speeds))
	}
	fmt.Println()
}

// threadTime is what this thread has had of a processor: others on the machine
// do not count.
func threadTime() time.Duration {
	var u unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_THREAD, &u) // cannot fail for oneself
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
