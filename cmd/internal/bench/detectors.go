package main

import (
	"fmt"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/policy/detect"
	"sallyport.dev/sallyport/policy/detect/corpus"
	"sallyport.dev/sallyport/protocols/postgres/scrub"
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
	runScrub(samples, max(rounds, 3))
}

// runScrub prints what it costs to have detectors look at the rows of a result.
func runScrub(samples []corpus.Sample, rounds int) {
	const rows = 1000
	fmt.Printf("| what is looked at | ms for 1,000 rows | MB per second of a processor |\n|---|---:|---:|\n")
	for _, c := range []struct {
		name string
		form scrub.Form
		kind detect.Set
		text func(i int) string
	}{
		{"a note with data in it, all kinds", scrub.Text, detect.All, func(i int) string { return samples[i].Text }},
		{"the same, ssn and email", scrub.Text, detect.Of(detect.SSN, detect.Email), func(i int) string { return samples[i].Text }},
		{"a note of 400 bytes without data, all kinds", scrub.Text, detect.All, func(int) string {
			return strings.Repeat("The patient was well and had no complaints. Plan: continue, review in six weeks.\n", 5)
		}},
		{"a document of JSON with data in it, all kinds", scrub.JSON, detect.All, func(i int) string {
			return fmt.Sprintf(`{"id": %d, "note": %q, "tags": ["a", "b"], "severity": 3}`, i, samples[i].Text)
		}},
	} {
		values, size := make([][]byte, rows), 0
		for i := range values {
			values[i] = []byte(c.text(i))
			size += len(values[i])
		}
		s := scrub.New(c.kind, "note")
		var times []float64
		var out []byte
		for range rounds {
			began, n := threadTime(), 0
			for ; threadTime()-began < 200*time.Millisecond; n++ {
				for _, v := range values {
					out, _ = s.Append(out[:0], v, c.form)
				}
			}
			times = append(times, (threadTime()-began).Seconds()/float64(n))
		}
		fmt.Printf("| %s | %.2f | %.0f |\n", c.name, 1e3*median(times), float64(size)/1e6/median(times))
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
