package detect_test

import (
	"strings"
	"testing"

	"sallyport.dev/sallyport/policy/detect"
	"sallyport.dev/sallyport/policy/detect/corpus"
)

func BenchmarkScan(b *testing.B) {
	samples := corpus.Generate(1, 6000)
	var mixed []string
	for _, s := range samples {
		mixed = append(mixed, s.Text)
	}
	for _, c := range []struct{ name, text string }{
		{"corpus", strings.Join(mixed, "\n")},
		{"prose", strings.Repeat("The patient was well and had no complaints. Plan: continue, review in six weeks; call if worse.\n", 5000)},
		{"numbers", strings.Repeat("1042 77 2024-05-17 13.5 105 7200 99881 0.25\n", 10000)},
	} {
		b.Run(c.name, func(b *testing.B) {
			s := detect.New(detect.Options{Kinds: detect.All})
			text := []byte(c.text)
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			s.Scan(text)
			for b.Loop() {
				s.Scan(text)
			}
		})
	}
	all := corpus.Measure(detect.New(detect.Options{Kinds: detect.All}), samples, nil)[0]
	b.ReportMetric(all.Precision(), "precision")
	b.ReportMetric(all.Recall(), "recall")
}
