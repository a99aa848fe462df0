package corpus

import (
	"math/rand/v2"
	"strings"

	"sallyport.dev/sallyport/policy/detect"
)

// Span is where a piece of data of some kind stands in a text.
type Span struct {
	Kind     detect.Kind
	From, To int // bytes
}

// Sample is a text and what is in it, in order.
type Sample struct {
	Text  string
	Spans []Span
}

// Generate makes n samples: two in three hold data, the others only look so.
func Generate(seed uint64, n int) []Sample {
	g := &generator{rand.New(rand.NewPCG(seed, 0x73616c6c79706f72))}
	out := make([]Sample, n)
	for i := range out {
		switch {
		case i%3 == 2:
			out[i] = g.fill(g.pick(negatives))
		default:
			out[i] = g.fill(positives[(i-i/3)%len(positives)])
		}
	}
	return out
}

type generator struct{ *rand.Rand }

func (g *generator) pick(from []string) string { return from[g.IntN(len(from))] }

// fill replaces {kind:form} and {form} in a template. The first is data of the
// kind; the second is no data of any.
func (g *generator) fill(template string) Sample {
	var b strings.Builder
	var s Sample
	for {
		before, rest, ok := strings.Cut(template, "{{")
		b.WriteString(before)
		if !ok {
			break
		}
		field, after, _ := strings.Cut(rest, "}}")
		template = after
		name, form, labelled := strings.Cut(field, ":")
		if !labelled {
			form = name
		}
		make, ok := forms[form]
		if !ok {
			panic("corpus: no form " + form)
		}
		from := b.Len()
		b.WriteString(make(g))
		if labelled {
			k := detect.ParseKind(name)
			if k == 0 {
				panic("corpus: no kind " + name)
			}
			s.Spans = append(s.Spans, Span{k, from, b.Len()})
		}
	}
	s.Text = b.String()
	return s
}
