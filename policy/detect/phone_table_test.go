package detect

import (
	"bytes"
	"encoding/binary"
	"flag"
	"fmt"
	"os"
	"regexp/syntax"
	"slices"
	"strings"
	"testing"

	"github.com/nyaruka/phonenumbers"
)

var update = flag.Bool("update", false, "write phone.bin anew")

// The committed table is that of the library's version. Where it is not:
//
//	go test ./policy/detect -run TestPhoneTable -update
func TestPhoneTable(t *testing.T) {
	all, err := phonenumbers.MetadataCollection()
	if err != nil {
		t.Fatal(err)
	}
	patterns := map[int][]string{}
	for _, m := range all.GetMetadata() {
		code := int(m.GetCountryCode())
		for _, d := range []*phonenumbers.PhoneNumberDesc{
			m.FixedLine, m.Mobile, m.TollFree, m.PremiumRate, m.SharedCost, m.PersonalNumber, m.Voip, m.Pager, m.Uan, m.Voicemail,
		} {
			if p := d.GetNationalNumberPattern(); p != "" && !slices.Contains(patterns[code], p) {
				patterns[code] = append(patterns[code], p)
			}
		}
	}
	table := &automaton{known: map[[stateSize]uint16]uint16{{}: 0}, list: [][stateSize]uint16{{}}}
	var first [codes]uint16
	for code := range codes {
		if p := patterns[code]; p != nil {
			first[code] = table.compile(t, strings.Join(p, "|"))
		}
	}
	var b bytes.Buffer
	for _, part := range []any{first, table.list} {
		if err := binary.Write(&b, binary.LittleEndian, part); err != nil {
			t.Fatal(err)
		}
	}
	if *update {
		if err := os.WriteFile("phone.bin", b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if b.String() != phones {
		t.Error("phone.bin is not what the library's patterns make: write it anew with -update")
	}
}

// automaton has the states of all patterns, equal ones once.
type automaton struct {
	known map[[stateSize]uint16]uint16
	list  [][stateSize]uint16
}

// compile adds the states of a pattern, and returns the first. Numbers end, so
// there is no way back to a state.
func (s *automaton) compile(t *testing.T, pattern string) uint16 {
	t.Helper()
	re, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		t.Fatal(err)
	}
	prog, err := syntax.Compile(re.Simplify())
	if err != nil {
		t.Fatal(err)
	}
	memo := map[string]uint16{}
	var state func(set []uint32) uint16
	state = func(set []uint32) uint16 {
		slices.Sort(set)
		key := fmt.Sprint(set)
		if n, ok := memo[key]; ok {
			return n
		}
		var x [stateSize]uint16
		for d := range rune(10) {
			var next []uint32
			for _, pc := range set {
				if in := &prog.Inst[pc]; in.Op != syntax.InstMatch && in.MatchRune('0'+d) {
					next = reach(prog, next, in.Out)
				}
			}
			x[d] = state(next)
		}
		if slices.ContainsFunc(set, func(pc uint32) bool { return prog.Inst[pc].Op == syntax.InstMatch }) {
			x[10] = 1
		}
		n, ok := s.known[x]
		if !ok {
			n = uint16(len(s.list))
			s.known[x] = n
			s.list = append(s.list, x)
		}
		memo[key] = n
		return n
	}
	memo["[]"] = 0
	return state(reach(prog, nil, uint32(prog.Start)))
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
