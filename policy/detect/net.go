package detect

const maxDomain = 255 // bytes (RFC 1035)

// email looks at an '@'.
func (s *Scanner) email(b []byte, i int) int {
	from := runBack(b, i, max(s.done, i-64), local)
	for from < i && (b[from] == '.' || b[from] == '-') {
		from++
	}
	end := run(b[:min(len(b), i+1+maxDomain)], i+1, host)
	for end > i && (b[end-1] == '.' || b[end-1] == '-') {
		end--
	}
	if from == i || b[i-1] == '.' || !domain(b[i+1:end]) || !s.wants(Email, 95) {
		return i + 1
	}
	s.emit(Email, from, end, 95)
	return end
}

// domain reports whether b has labels that are not empty, and a last one of
// letters.
func domain(b []byte) bool {
	dots, label := 0, 0
	for k, c := range b {
		switch {
		case c != '.':
			continue
		case k == label:
			return false
		}
		dots++
		label = k + 1
	}
	last := b[label:]
	return dots > 0 && (len(last) >= 2 && len(last) <= 24 && run(last, 0, letter) == len(last) || len(last) > 4 && string(last[:4]) == "xn--")
}

// scheme looks at a "://".
func (s *Scanner) scheme(b []byte, i int) int {
	from := runBack(b, i, max(s.done, i-16), alnum)
	if at(b, from-1) == '+' { // git+ssh
		from = runBack(b, from-1, max(s.done, i-16), alnum)
	}
	if i-from < 2 || !is(b, from, letter) || is(b, from-1, alnum) || !s.wants(URL, 90) {
		return i + 3
	}
	return s.url(b, i, from, i+3)
}

// www looks at the '.' behind www.
func (s *Scanner) www(b []byte, i int) int {
	from := i - 3
	if from < s.done || b[from]|0x20 != 'w' || b[from+1]|0x20 != 'w' || is(b, from-1, alnum) || !s.wants(URL, 85) {
		return i + 1
	}
	if end := run(b[:min(len(b), i+1+maxDomain)], i+1, host); !domain(b[from:trimEnd(b, from, end)]) {
		return i + 1
	}
	return s.url(b, i, from, i+1)
}

func (s *Scanner) url(b []byte, noticed, from, rest int) int {
	end := run(b, rest, link)
	if end < len(b) || len(b) < noticed+Ahead {
		end = trimEnd(b, rest, end)
	}
	if end-rest < 3 || !is(b, rest, alnum) && b[rest] != '[' && b[rest] != '/' && b[rest] != ':' {
		return rest
	}
	return s.token(URL, b, noticed, from, end, 90, follow{class: link})
}

// trimEnd leaves out what ends a sentence or a quotation.
func trimEnd(b []byte, from, end int) int {
	for end > from {
		switch b[end-1] {
		case '.', ',', ';', ':', '!', '?', '\'', ')', ']', '*', '_':
			end--
			continue
		}
		break
	}
	return end
}

// colons looks at a ':' that may be in an address whose first group has no
// digit, or is not there.
func (s *Scanner) colons(b []byte, i int) int {
	from := runBack(b, i, max(s.done, i-5), alnum)
	if is(b, from-1, alnum) || is(b, from, digit) {
		return 0
	}
	return s.colonsFrom(b, from, i)
}

// colonsFrom looks for a MAC or an IPv6 address whose first group is b[from:to].
func (s *Scanner) colonsFrom(b []byte, from, to int) int {
	sep := at(b, to)
	if to-from > 4 || sep != ':' && sep != '-' && sep != '.' || run(b, from, hex) != to || at(b, from-1) == ':' {
		return 0
	}
	if end := mac(b, from, sep); end > 0 {
		if !s.wants(MAC, 90) {
			return 0
		}
		s.emit(MAC, from, end, 90)
		return end
	}
	if sep != ':' {
		return 0
	}
	if end := ip6(b, from); end > 0 && s.wants(IP, 90) {
		s.emit(IP, from, end, 90)
		return end
	}
	return 0
}

// mac returns the end of a MAC address: six groups of two, or three of four
// behind points.
func mac(b []byte, i int, sep byte) int {
	groups, width := 6, 2
	if sep == '.' {
		groups, width = 3, 4
	}
	same, first := true, at(b, i)
	for g := range groups {
		if g > 0 {
			if at(b, i) != sep {
				return 0
			}
			i++
		}
		for range width {
			if !is(b, i, hex) {
				return 0
			}
			same = same && b[i] == first
			i++
		}
	}
	if same || is(b, i, alnum) || at(b, i) == sep && is(b, i+1, hex) {
		return 0
	}
	return i
}

// ip6 returns the end of an IPv6 address (RFC 4291) that is no loopback and has
// a digit.
func ip6(b []byte, i int) int {
	groups, gap, digits := 0, false, false
	for groups <= 8 {
		end := i
		for end-i < 4 && is(b, end, hex) {
			digits = digits || is(b, end, digit)
			end++
		}
		if end > i {
			groups++
		}
		if at(b, end) != ':' || end == i && at(b, end+1) != ':' {
			i = end
			break
		}
		if at(b, end+1) == ':' {
			if gap {
				return 0
			}
			gap = true
			i = end + 2
			if !is(b, i, hex) {
				break
			}
			continue
		}
		if !is(b, end+1, hex) {
			i = end
			break
		}
		i = end + 1
	}
	if is(b, i, alnum) || at(b, i) == ':' && is(b, i+1, alnum) || !digits {
		return 0
	}
	if groups == 8 && !gap || gap && groups >= 3 && groups < 8 {
		return i
	}
	return 0
}

// ip4 returns the end of four numbers with points that are an address of one
// host.
func ip4(b []byte, i int) int {
	var octets [4]int
	for g := range octets {
		if g > 0 {
			if at(b, i) != '.' {
				return 0
			}
			i++
		}
		from := i
		for is(b, i, digit) && i-from < 4 {
			octets[g] = octets[g]*10 + int(b[i]-'0')
			i++
		}
		if i == from || octets[g] > 255 || i-from > 1 && b[from] == '0' {
			return 0
		}
	}
	if is(b, i, alnum) || at(b, i) == '.' && is(b, i+1, digit) || octets[0] == 0 || octets[0] == 127 || octets[0] == 255 || octets[1] == 0 && octets[2] == 0 && octets[3] == 0 {
		return 0
	}
	return i
}
