package detect

import (
	"fmt"
	"regexp/syntax"
	"slices"
	"strings"
	"sync"

	"github.com/nyaruka/phonenumbers"
)

// country knows the numbers of a calling code, by the library's metadata. The
// library itself parses strings into messages; here nothing may be allocated
// per number, so its patterns become a table of states. A test holds both to
// the same answers.
type country struct {
	regions []*phonenumbers.PhoneMetadata
	once    sync.Once
	next    [][10]uint16 // state and digit to state; 0 is none, 1 the first
	accepts []bool
}

// countries by calling code, 1 to 999.
var countries = sync.OnceValue(func() *[1000]*country {
	var t [1000]*country
	all, err := phonenumbers.MetadataCollection()
	if err != nil {
		panic(err) // it is embedded
	}
	for _, m := range all.GetMetadata() {
		c := m.GetCountryCode()
		if t[c] == nil {
			t[c] = &country{}
		}
		t[c].regions = append(t[c].regions, m)
	}
	return &t
})

func (c *country) valid(national []byte) bool {
	c.once.Do(c.compile)
	state := uint16(1)
	for _, d := range national {
		state = c.next[state][d-'0']
	}
	return c.accepts[state]
}

// compile makes the states of all patterns of the code's regions.
func (c *country) compile() {
	var patterns []string
	for _, m := range c.regions {
		for _, d := range []*phonenumbers.PhoneNumberDesc{
			m.FixedLine, m.Mobile, m.TollFree, m.PremiumRate, m.SharedCost, m.PersonalNumber, m.Voip, m.Pager, m.Uan, m.Voicemail,
		} {
			if p := d.GetNationalNumberPattern(); p != "" && !slices.Contains(patterns, p) {
				patterns = append(patterns, p)
			}
		}
	}
	re, err := syntax.Parse("(?:"+strings.Join(patterns, "|")+")", syntax.Perl)
	if err != nil {
		panic(err) // the library compiles the same ones
	}
	prog, err := syntax.Compile(re.Simplify())
	if err != nil {
		panic(err)
	}
	c.next, c.accepts = [][10]uint16{{}}, []bool{false}
	var sets [][]uint32
	known := map[string]uint16{"[]": 0}
	state := func(set []uint32) uint16 {
		slices.Sort(set)
		key := fmt.Sprint(set)
		n, ok := known[key]
		if !ok {
			n = uint16(len(c.next))
			known[key] = n
			sets = append(sets, set)
			c.next = append(c.next, [10]uint16{})
			c.accepts = append(c.accepts, slices.ContainsFunc(set, func(pc uint32) bool { return prog.Inst[pc].Op == syntax.InstMatch }))
		}
		return n
	}
	state(reach(prog, nil, uint32(prog.Start)))
	for n := 0; n < len(sets); n++ {
		for d := range rune(10) {
			var set []uint32
			for _, pc := range sets[n] {
				if in := &prog.Inst[pc]; in.Op != syntax.InstMatch && in.MatchRune('0'+d) {
					set = reach(prog, set, in.Out)
				}
			}
			c.next[n+1][d] = state(set)
		}
	}
	c.regions = nil
}

// reach adds the instructions that read something, or match, and that follow
// from pc without reading.
func reach(prog *syntax.Prog, set []uint32, pc uint32) []uint32 {
	switch in := &prog.Inst[pc]; in.Op {
	case syntax.InstAlt, syntax.InstAltMatch:
		return reach(prog, reach(prog, set, in.Out), in.Arg)
	case syntax.InstCapture, syntax.InstNop:
		return reach(prog, set, in.Out)
	case syntax.InstFail, syntax.InstEmptyWidth: // no pattern has anchors
		return set
	}
	if slices.Contains(set, pc) {
		return set
	}
	return append(set, pc)
}

// dialled reports whether digits behind a '+' are a valid number.
func dialled(d []byte) bool {
	all := countries()
	for n := 1; n <= 3 && n < len(d); n++ {
		if c := all[value(d[:n])]; c != nil {
			return c.valid(d[n:])
		}
	}
	return false
}

// american reports whether ten digits are a valid number of the North American
// plan.
func american(d []byte) bool {
	return len(d) == 10 && d[0] >= '2' && countries()[1].valid(d)
}
