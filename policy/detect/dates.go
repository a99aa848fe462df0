package detect

// date: of birth, and of what else happened to somebody, where a word says so.
func (s *Scanner) date(c *candidate) int {
	if c.count[1] > 8 {
		return 0
	}
	from, end, certain := c.from, 0, true
	switch {
	case c.count[1] == 8:
		if c.ends(c.b, 1) && day(value(c.digits[:4]), value(c.digits[4:6]), value(c.digits[6:8])) {
			end = c.end[0]
		}
	case c.n >= 3 && c.sep[1] == c.sep[2] && (c.sep[1] == '-' || c.sep[1] == '/' || c.sep[1] == '.'):
		end, certain = c.numeric()
	default:
		from, end = written(c.b, c.from, c.end[0])
	}
	if end == 0 {
		return 0
	}
	ctx := c.says()
	if from != c.from {
		ctx, _ = s.contextBefore(c.b, from)
	}
	return s.dated(from, end, ctx, certain)
}

// dated records a date, if a word tells what it is of.
func (s *Scanner) dated(from, end int, ctx context, certain bool) int {
	confidence := uint8(90)
	if !certain { // two digits of a year
		confidence = 75
	}
	switch {
	case ctx&ctxBirth != 0:
		return s.hit(BirthDate, from, end, confidence)
	case ctx&ctxDate != 0:
		return s.hit(Date, from, end, confidence-10)
	}
	return 0
}

// numeric returns the end of a date of three numbers, and whether its year has
// four digits. It may be followed by a time.
func (c *candidate) numeric() (end int, certain bool) {
	var v, n [3]int
	for k := range v {
		n[k] = c.count[k+1] - c.count[k]
		if n[k] > 4 {
			return 0, false
		}
		v[k] = value(c.digits[c.count[k]:c.count[k+1]])
	}
	end = c.end[2]
	if is(c.b, end, letter) && at(c.b, end) != 'T' || (at(c.b, end) == '-' || at(c.b, end) == '/') && is(c.b, end+1, digit) {
		return 0, false
	}
	switch {
	case n[0] == 4 && n[1] <= 2 && n[2] <= 2:
		return when(end, day(v[0], v[1], v[2])), true
	case n[0] <= 2 && n[1] <= 2 && n[2] == 4:
		return when(end, day(v[2], v[0], v[1]) || day(v[2], v[1], v[0])), true
	case n[0] <= 2 && n[1] <= 2 && n[2] == 2:
		return when(end, day(1900+v[2], v[0], v[1]) || day(1900+v[2], v[1], v[0])), false
	}
	return 0, false
}

func when(end int, ok bool) int {
	if !ok {
		return 0
	}
	return end
}

// day reports whether there was such a day in the lives of people and records.
func day(y, m, d int) bool {
	return y >= 1880 && y <= 2100 && m >= 1 && m <= 12 && d >= 1 && d <= 31 && (d <= 30 || m != 4 && m != 6 && m != 9 && m != 11) && (m != 2 || d <= 29)
}

// written returns the bounds of a date whose day b[i:to] is, with the month in
// letters: March 12, 1985; 12th of March 1985; 12-Mar-85 is not one.
func written(b []byte, i, to int) (from, end int) {
	if to-i > 2 || to == i || value(b[i:to]) > 31 {
		return 0, 0
	}
	if run(b, to, lower) == to+2 { // 12th
		to += 2
	}
	// The month behind it.
	k := blank(b, to)
	if hasPrefix(b, k, "of ") {
		k += 3
	}
	if e := run(b, k, letter); k > to && month(b[k:e]) {
		if at(b, e) == '.' {
			e++
		}
		if y := yearEnd(b, e); y > 0 {
			return i, y
		}
	}
	// The month before it.
	k = i
	for k > 0 && i-k < 2 && (b[k-1] == ' ' || b[k-1] == '.') {
		k--
	}
	m := runBack(b, k, max(0, k-10), letter)
	if k < i && month(b[m:k]) && !is(b, m-1, alnum) {
		if y := yearEnd(b, to); y > 0 {
			return m, y
		}
	}
	return 0, 0
}

// blank returns where the word behind a blank, a dash or a comma begins.
func blank(b []byte, i int) int {
	if at(b, i) == ',' {
		i++
	}
	if c := at(b, i); c == ' ' || c == '-' {
		i++
	}
	return i
}

// yearEnd returns the end of the year that follows.
func yearEnd(b []byte, i int) int {
	k := blank(b, i)
	e := run(b, k, digit)
	if k == i || e-k != 4 || is(b, e, letter) {
		return 0
	}
	if y := value(b[k:e]); y < 1880 || y > 2100 {
		return 0
	}
	return e
}

func month(b []byte) bool {
	if len(b) < 3 || len(b) > 9 {
		return false
	}
	var low [9]byte
	for k, c := range b {
		low[k] = c | 0x20
	}
	switch string(low[:len(b)]) {
	case "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "sept", "oct", "nov", "dec",
		"january", "february", "march", "april", "june", "july", "august", "september", "october", "november", "december":
		return true
	}
	return false
}
