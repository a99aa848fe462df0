package detect

const maxGroups = 8

// groups are the runs of digits that begin at a number, with what parts them.
type groups struct {
	n      int
	start  [maxGroups]int
	end    [maxGroups]int
	sep    [maxGroups]byte // before the group: ' ', '-', '.', '/', or ')' with or without a blank
	digits [32]byte        // of all groups
	count  [maxGroups + 1]int
}

// split fills g from b[from] on.
func (g *groups) split(b []byte, from int) {
	g.n, g.count[0] = 0, 0
	i, total, plus := from, 0, at(b, from-1) == '+'
	for sep := byte(0); g.n < maxGroups; g.n++ {
		end := run(b, i, digit)
		if end == i || is(b, end, letter) || total+end-i > len(g.digits) {
			return
		}
		total += copy(g.digits[total:], b[i:end])
		g.start[g.n], g.end[g.n], g.sep[g.n], g.count[g.n+1] = i, end, sep, total
		if g.n == 1 && sep == ' ' && !plus && !printed(g.count[1], end-i) {
			return
		}
		if sep, i = separator(b, end); sep == 0 {
			g.n++
			return
		}
	}
}

// printed reports whether groups of so many digits, with a blank between them,
// begin a number of a card, a person or a telephone: 4111 1111, 219 45, 1 617.
func printed(first, second int) bool {
	return first == 4 && (second == 4 || second == 6) || first == 3 && (second == 2 || second == 3) || first == 1 && second == 3
}

// separator returns what parts b[i:] from the next group, and where that begins;
// dashes and blanks that are not ASCII count as such.
func separator(b []byte, i int) (byte, int) {
	switch c := at(b, i); c {
	case ' ', '-', '.', '/':
		if c == ' ' && at(b, i+1) == '(' { // 1 (617) ...
			return c, i + 2
		}
		return c, i + 1
	case ')':
		if n := at(b, i+1); n == ' ' || n == '-' {
			return c, i + 2
		}
		return c, i + 1
	case 0xC2:
		if hasPrefix(b, i, "\u00a0") {
			return ' ', i + 2
		}
	case 0xE2:
		switch {
		case hasPrefix(b, i, "\u2010"), hasPrefix(b, i, "\u2011"), hasPrefix(b, i, "\u2012"), hasPrefix(b, i, "\u2013"):
			return '-', i + 3
		case hasPrefix(b, i, "\u202f"), hasPrefix(b, i, "\u2009"):
			return ' ', i + 3
		}
	}
	return 0, i
}

// shape reports whether the first groups have these lengths, parted by one kind
// of separator, and end there.
func (g *groups) shape(b []byte, lengths ...int) bool {
	if g.n < len(lengths) {
		return false
	}
	for k, n := range lengths {
		if g.end[k]-g.start[k] != n || k > 1 && g.sep[k] != g.sep[1] || k > 0 && (g.sep[k] == '/' || g.sep[k] == ')') {
			return false
		}
	}
	return g.ends(b, len(lengths))
}

// ends reports that the number does not go on behind its first n groups: what
// follows is parted from it by a blank, or ends a sentence.
func (g *groups) ends(b []byte, n int) bool {
	end := g.end[n-1]
	switch next := at(b, end); {
	case next == '-' || next == '/' || next == '_' || next == '@':
		return !is(b, end+1, alnum)
	case next == '.' || next == ',':
		return !is(b, end+1, digit)
	}
	return !is(b, end, alnum)
}

// first returns the digits of the first n groups.
func (g *groups) first(n int) []byte { return g.digits[:g.count[n]] }

// candidate is a number, and what stands before it.
type candidate struct {
	groups
	s      *Scanner
	b      []byte
	from   int
	ctx    context // see says
	asked  bool
	joined bool // to what stands before it: MRN-123, but also X-123-45-6789

	scratch [32]byte
}

// digits looks at a run of digits with no letters. It returns the end of what
// was found, 0 for nothing.
func (s *Scanner) digits(b []byte, from, to int) int {
	c := &s.cand
	c.s, c.b, c.from, c.asked = s, b, from, false
	c.split(b, from)
	if c.n == 0 {
		return 0
	}
	before := at(b, from-1)
	if (before == '.' || before == ',') && is(b, from-2, digit) || before == '$' {
		return run(b, to, digit) // a fraction, a sum
	}
	c.joined = (before == '-' || before == '/' || before == '_' || before == '.' || before == '#') && is(b, from-2, alnum)
	if before == '+' && !is(b, from-2, alnum) {
		return s.abroad(c)
	}
	// What is said to be an identifier is one, whatever it looks like.
	if sep := at(b, to); to-from >= 5 || sep == '-' || sep == '/' {
		if ctx := c.says(); ctx&ctxNear != 0 {
			if end := s.labelled(b, from, ctx); end > 0 {
				return end
			}
		}
	}
	end := s.address4(c)
	if end == 0 {
		end = s.date(c)
	}
	if end == 0 {
		end = s.payment(c)
	}
	if end == 0 {
		end = s.social(c)
	}
	if end == 0 {
		end = s.telephone(c)
	}
	if end == 0 {
		end = s.place(c)
	}
	if end == 0 {
		end = s.years(c)
	}
	return end
}

// says is what the words before the number say, looked at once.
func (c *candidate) says() context {
	if !c.asked {
		ctx, near := c.s.contextBefore(c.b, c.from)
		if ctx&ctxNear != 0 && !near {
			ctx = 0
		}
		c.ctx, c.asked = ctx, true
	}
	return c.ctx
}

// sure is the confidence of a form: less where a word before it says that it is
// something else, more where one says that it is this.
func (c *candidate) sure(alone uint8, word context) uint8 {
	switch {
	case c.says()&word != 0:
		return 95
	case c.says()&ctxOther != 0:
		return alone / 2
	case c.joined:
		return alone / 2
	}
	return alone
}

func (s *Scanner) hit(k Kind, from, to int, confidence uint8) int {
	if from < s.done || !s.wants(k, confidence) {
		return 0
	}
	s.emit(k, from, to, confidence)
	return to
}

func (s *Scanner) address4(c *candidate) int {
	if c.n < 4 || c.sep[1] != '.' {
		return 0
	}
	end := ip4(c.b, c.from)
	if end == 0 {
		return 0
	}
	confidence := c.sure(85, 0)
	if at(c.b, c.from-1)|0x20 == 'v' {
		confidence = 10
	}
	return s.hit(IP, c.from, end, confidence)
}

// payment: card numbers in one piece, or as they are printed.
func (s *Scanner) payment(c *candidate) int {
	for _, f := range [...]struct {
		n     int
		shape [5]int
	}{{5, [5]int{4, 4, 4, 4, 3}}, {4, [5]int{4, 4, 4, 4}}, {3, [5]int{4, 6, 5}}, {3, [5]int{4, 6, 4}}} {
		if c.shape(c.b, f.shape[:f.n]...) && card(c.first(f.n)) {
			return s.hit(Card, c.from, c.end[f.n-1], c.sure(95, ctxCard))
		}
	}
	if c.ends(c.b, 1) && card(c.first(1)) {
		return s.hit(Card, c.from, c.end[0], c.sure(80, ctxCard))
	}
	return 0
}

// social: 123-45-6789, and nine digits where a word says so.
func (s *Scanner) social(c *candidate) int {
	said := c.says()&ctxSSN != 0
	n, alone := 3, uint8(85)
	switch {
	case c.shape(c.b, 3, 2, 4):
		if c.sep[1] != '-' {
			alone = 55
		}
	case c.ends(c.b, 1) && c.count[1] == 9 && said:
		n = 1
	default:
		return 0
	}
	d := c.first(n)
	switch {
	case issuable(d):
	case taxpayer(d):
		alone -= 15
	case said && !same(d) && d[0] == '9': // made up, or of a state's own
	default:
		return 0
	}
	return s.hit(SSN, c.from, c.end[n-1], c.sure(alone, ctxSSN))
}

// telephone: numbers of the North American plan.
func (s *Scanner) telephone(c *candidate) int {
	from, k := c.from, 0
	if c.n > 3 && c.count[1] == 1 && c.digits[0] == '1' {
		k = 1
	}
	if k == 0 && c.ends(c.b, 1) && (c.count[1] == 10 || c.count[1] == 11 && c.digits[0] == '1') {
		if d := c.first(1); c.says()&ctxPhone != 0 && american(d[len(d)-10:]) {
			return s.hit(Phone, from, c.end[0], 90)
		}
		return 0
	}
	if c.n < k+3 || c.end[k]-c.start[k] != 3 || c.end[k+1]-c.start[k+1] != 3 || c.end[k+2]-c.start[k+2] != 4 || !c.ends(c.b, k+3) {
		return 0
	}
	alone := uint8(85)
	switch first, second := c.sep[k+1], c.sep[k+2]; {
	case first == ')' && (second == '-' || second == ' ' || second == '.'):
		alone = 95
		if k == 0 && at(c.b, from-1) == '(' {
			from--
		}
	case first != second || first == '/':
		return 0
	case first == '.':
		alone = 75
	case first == ' ':
		alone = 60
	}
	if !american(c.digits[c.count[k]:c.count[k+3]]) {
		return 0
	}
	return s.hit(Phone, from, c.end[k+2], c.sure(alone, ctxPhone))
}

// abroad: what begins with a '+'. The number may be followed by another, so
// that the longest beginning counts that is valid.
func (s *Scanner) abroad(c *candidate) int {
	for n := c.n; n > 0; n-- {
		d := c.first(n)
		if len(d) >= 7 && len(d) <= 15 && c.ends(c.b, n) {
			if dialled(d) {
				return s.hit(Phone, c.from-1, c.end[n-1], 95)
			}
			if t, ok := trunk(c, n); ok && dialled(t) {
				return s.hit(Phone, c.from-1, c.end[n-1], 90)
			}
		}
	}
	return 0
}

// trunk leaves out the zero of +44 (0)20 ..., which is dialled within the
// country only.
func trunk(c *candidate, n int) ([]byte, bool) {
	if n < 3 || c.sep[2] != ')' || c.count[2]-c.count[1] != 1 || c.digits[c.count[1]] != '0' {
		return nil, false
	}
	d := append(c.scratch[:0], c.digits[:c.count[1]]...)
	return append(d, c.digits[c.count[2]:c.count[n]]...), true
}

// years: ages of 90 and more, which HIPAA counts as identifiers.
func (s *Scanner) years(c *candidate) int {
	if n := c.count[1]; n < 2 || n > 3 || c.joined {
		return 0
	}
	if age := value(c.first(1)); age < 90 || age > 120 {
		return 0
	}
	end := c.end[0]
	if c.says()&ctxAge != 0 && c.ends(c.b, 1) {
		return s.hit(Age, c.from, end, 85)
	}
	for _, word := range [...]string{" years old", "-year-old", " year old", " years of age", " yo ", " y/o"} {
		if hasPrefix(c.b, end, word) {
			return s.hit(Age, c.from, end, 85)
		}
	}
	return 0
}
