package corpus

import "sallyport.dev/sallyport/policy/detect"

// Score counts spans of one kind: found exactly, found where there are none (or
// with another kind or other bounds), and not found exactly.
type Score struct{ Right, Wrong, Missed int }

// Precision is the share of what was found that is right; 1 if nothing was.
func (s Score) Precision() float64 { return share(s.Right, s.Wrong) }

// Recall is the share of what is there that was found; 1 if nothing is there.
func (s Score) Recall() float64 { return share(s.Right, s.Missed) }

func share(good, bad int) float64 {
	if good+bad == 0 {
		return 1
	}
	return float64(good) / float64(good+bad)
}

// Measure scans all samples and returns the score of each kind, and of all
// together under the zero Kind. each, where it is not nil, is told of every
// sample that was not found exactly right.
func Measure(s *detect.Scanner, samples []Sample, each func(Sample, []detect.Finding)) map[detect.Kind]Score {
	out := map[detect.Kind]Score{}
	for _, sample := range samples {
		found := s.Scan([]byte(sample.Text))
		right := map[Span]bool{}
		for _, w := range sample.Spans {
			right[w] = false
		}
		exact := true
		count := func(k detect.Kind, add Score) {
			for _, k := range []detect.Kind{0, k} {
				n := out[k]
				out[k] = Score{n.Right + add.Right, n.Wrong + add.Wrong, n.Missed + add.Missed}
			}
			exact = exact && add.Right == 1
		}
		for _, f := range found {
			w := Span{f.Kind, int(f.Offset), int(f.End())}
			if _, ok := right[w]; ok {
				right[w] = true
				count(f.Kind, Score{Right: 1})
			} else {
				count(f.Kind, Score{Wrong: 1})
			}
		}
		for w, ok := range right {
			if !ok {
				count(w.Kind, Score{Missed: 1})
			}
		}
		if !exact && each != nil {
			each(sample, found)
		}
	}
	return out
}
