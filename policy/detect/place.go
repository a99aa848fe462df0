package detect

const states = " AL AK AZ AR CA CO CT DE DC FL GA HI ID IL IN IA KS KY LA ME MD MA MI MN MS MO MT NE NV NH NJ NM NY NC ND OH OK OR PA RI SC SD TN TX UT VT VA WA WV WI WY PR VI GU "

// place: a ZIP code behind its state, and a street with its number.
func (s *Scanner) place(c *candidate) int {
	if c.joined {
		return 0
	}
	b, from := c.b, c.from
	if n := c.count[1]; n == 5 {
		if from >= 3 && b[from-1] == ' ' && is(b, from-2, upper) && is(b, from-3, upper) && !is(b, from-4, alnum) && state(b[from-3], b[from-2]) {
			end := c.end[0]
			if at(b, end) == '-' && run(b, end+1, digit) == end+5 {
				end += 5
			}
			if !is(b, end, alnum) && at(b, end) != '-' {
				return s.hit(Zip, from, end, 80)
			}
		}
	} else if n > 6 {
		return 0
	}
	if end := street(b, c.end[0]); end > 0 {
		return s.hit(Address, from, end, 75)
	}
	return 0
}

func state(a, b byte) bool {
	for k := 1; k+2 < len(states); k += 3 {
		if states[k] == a && states[k+1] == b {
			return true
		}
	}
	return false
}

// street returns the end of a street's name behind its number: up to four words
// that begin with a capital letter or are ordinals, and then what streets are
// called.
func street(b []byte, i int) int {
	for words := range 5 {
		if at(b, i) != ' ' {
			return 0
		}
		i++
		end := run(b, i, alnum)
		if end == i || end-i > maxWord || !is(b, i, upper|digit) {
			return 0
		}
		if words > 0 && way(b[i:end]) {
			return end
		}
		if at(b, end) == '.' && end-i <= 2 { // N. Main
			end++
		}
		i = end
	}
	return 0
}

func way(b []byte) bool {
	var low [maxWord]byte
	for k, c := range b {
		low[k] = c | 0x20
	}
	switch string(low[:len(b)]) {
	case "street", "st", "avenue", "ave", "road", "rd", "boulevard", "blvd", "lane", "ln", "drive", "dr", "court", "ct", "place", "pl",
		"square", "sq", "terrace", "ter", "highway", "hwy", "parkway", "pkwy", "circle", "cir", "way", "trail", "trl":
		return true
	}
	return false
}
