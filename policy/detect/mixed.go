package detect

// mixed looks at b[from:to], digits with letters. It returns the end of what
// was found, 0 for nothing.
func (s *Scanner) mixed(b []byte, from, to int) int {
	if end := s.strong(b, from, to); end > 0 {
		return end
	}
	ctx, near := s.contextBefore(b, from)
	if near && ctx&ctxNear != 0 {
		if end := s.labelled(b, from, ctx); end > 0 {
			return end
		}
	}
	if d := run(b, from, digit); d > from && d-from <= 2 && to-d == 2 { // 12th
		if f, end := written(b, from, d); end > 0 && f >= s.done {
			if f != from {
				ctx, _ = s.contextBefore(b, f)
			}
			return s.dated(f, end, ctx, true)
		}
	}
	return 0
}

// strong looks for what checks itself: IBAN, VIN, DEA, MBI.
func (s *Scanner) strong(b []byte, from, to int) int {
	if end := s.bank(b, from, to); end > 0 {
		return end
	}
	joined := at(b, from-1) == '-' || at(b, from-1) == '_' || at(b, from-1) == '/' || at(b, from-1) == '+' || at(b, from-1) == '='
	whole := !is(b, to+1, alnum) || at(b, to) != '-' && at(b, to) != '_' && at(b, to) != '/' && at(b, to) != '+' && at(b, to) != '@'
	id := b[from:to]
	small := false
	for _, c := range id {
		small = small || classes[c]&lower != 0
	}
	switch n := to - from; {
	case n == 17 && whole:
		id = s.big(id)
		form, checked := vin(id)
		if !form {
			return 0
		}
		ctx, _ := s.contextBefore(b, from)
		switch said := ctx&ctxVIN != 0; {
		case said && checked:
			return s.hit(VIN, from, to, 98)
		case said: // the check digit is American
			return s.hit(VIN, from, to, 75)
		case checked && !small && !joined:
			return s.hit(VIN, from, to, 85)
		}
	case n == 9 && whole && dea(id):
		ctx, _ := s.contextBefore(b, from)
		switch {
		case ctx&ctxDEA != 0:
			return s.hit(DEA, from, to, 98)
		case ctx == 0 || ctx == ctxFiller:
			if !joined {
				return s.hit(DEA, from, to, 60)
			}
		}
	case n == 11 && whole && mbi(s.big(id)):
		ctx, _ := s.contextBefore(b, from)
		if ctx&(ctxMBI|ctxMember) != 0 || !small && !joined && ctx&ctxOther == 0 {
			return s.hit(MBI, from, to, 85)
		}
	case n == 4 && at(b, to) == '-' && at(b, to+4) == '-':
		end := run(b, to+5, alnum)
		if end != to+9 || at(b, end) == '-' || joined {
			return 0
		}
		d := append(s.scratch[:0], b[from:to]...)
		d = append(append(d, b[to+1:to+4]...), b[to+5:end]...)
		if mbi(d) {
			return s.hit(MBI, from, end, 90)
		}
	}
	return 0
}

// big returns b in capital letters, until its next call.
func (s *Scanner) big(b []byte) []byte {
	d := s.scratch[:len(b)]
	for k, c := range b {
		if classes[c]&lower != 0 {
			c -= 'a' - 'A'
		}
		d[k] = c
	}
	return d
}

// bank looks for an IBAN, in one piece or in groups of four.
func (s *Scanner) bank(b []byte, from, to int) int {
	if to-from < 4 || !is(b, from, upper) || !is(b, from+1, upper) || !is(b, from+2, digit) || !is(b, from+3, digit) || at(b, from-1) == '-' || at(b, from-1) == '_' {
		return 0
	}
	want := ibanLengths[[2]byte{b[from], b[from+1]}]
	if want == 0 {
		return 0
	}
	d, i := s.scratch[:0], from
	for len(d) < want && i < len(b) {
		if c := b[i]; classes[c]&(digit|upper) != 0 {
			d = append(d, c)
		} else if c != ' ' || len(d)%4 != 0 {
			return 0
		}
		i++
	}
	if is(b, i, alnum) || !iban(d) {
		return 0
	}
	return s.hit(IBAN, from, i, 98)
}

// labelled looks at an identifier that a word right before it announces.
func (s *Scanner) labelled(b []byte, from int, ctx context) int {
	end, digits, dashes := from, 0, 0
	for end-from <= 40 && (is(b, end, alnum) || (at(b, end) == '-' || at(b, end) == '/') && is(b, end+1, alnum)) {
		if is(b, end, digit) {
			digits++
		} else if b[end] == '-' || b[end] == '/' {
			dashes++
		}
		end++
	}
	id, n := b[from:end], end-from
	if ctx&ctxDiagnosis != 0 {
		if e := diagnosis(b, from); e > 0 {
			return s.hit(Diagnosis, from, e, 85)
		}
		return 0
	}
	if n > 40 || at(b, end) == '@' || at(b, end) == '.' && is(b, end+1, digit) || dashes == 2 && isDate(id) || at(b, end) == '%' {
		return 0
	}
	plain := digits == n
	switch {
	case ctx&ctxNPI != 0 && plain && npi(id):
		return s.hit(NPI, from, end, 95)
	case ctx&ctxDEA != 0 && dea(id):
		return s.hit(DEA, from, end, 98)
	case ctx&ctxRouting != 0 && plain && routing(id):
		return s.hit(Routing, from, end, 90)
	case ctx&ctxZip != 0 && (n == 5 && plain || n == 10 && digits == 9 && id[5] == '-'):
		return s.hit(Zip, from, end, 85)
	case ctx&ctxMRN != 0 && digits >= 5:
		return s.hit(MRN, from, end, 85)
	case ctx&ctxAccount != 0 && digits >= 6:
		return s.hit(Account, from, end, 80)
	case ctx&ctxMember != 0 && digits >= 5 && n >= 7:
		return s.hit(Member, from, end, 75)
	case ctx&ctxLicence != 0 && digits >= 5 && n >= 6:
		return s.hit(Licence, from, end, 75)
	case ctx&ctxPlate != 0 && digits >= 2 && n >= 5 && n <= 9 && dashes <= 1:
		return s.hit(Plate, from, end, 70)
	case ctx&ctxPassport != 0 && digits >= 6 && n >= 8 && n <= 9:
		return s.hit(Passport, from, end, 80)
	case ctx&ctxDevice != 0 && plain && n == 15 && luhn(id, 0):
		return s.hit(Device, from, end, 90)
	case ctx&ctxDevice != 0 && digits >= 4 && n >= 8:
		return s.hit(Device, from, end, 70)
	}
	return 0
}

// isDate reports the form 2024-01-31 or 01/31/2024.
func isDate(b []byte) bool {
	return len(b) == 10 && (b[4] == b[7] && classes[b[4]]&alnum == 0 || b[2] == b[5] && classes[b[2]]&alnum == 0)
}

// diagnosis returns the end of an ICD-10-CM code: a letter, a digit, a digit or
// A or B, and after a point up to four more.
func diagnosis(b []byte, i int) int {
	if !is(b, i, upper) || b[i] == 'U' || !is(b, i+1, digit) || !is(b, i+2, digit) && at(b, i+2) != 'A' && at(b, i+2) != 'B' {
		return 0
	}
	end := i + 3
	if at(b, end) == '.' && is(b, end+1, digit|upper) {
		end = run(b, end+1, digit|upper)
	}
	if end-i > 8 || is(b, end, alnum) {
		return 0
	}
	return end
}
