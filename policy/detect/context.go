package detect

// context is what a word says of the value behind it.
type context uint32

const (
	ctxSSN context = 1 << iota
	ctxCard
	ctxPhone
	ctxNPI
	ctxDEA
	ctxVIN
	ctxMBI
	ctxDiagnosis
	ctxMRN
	ctxBirth
	ctxDate
	ctxAge
	ctxZip
	ctxAccount
	ctxRouting
	ctxMember
	ctxLicence
	ctxPlate
	ctxDevice
	ctxPassport
	ctxSecret
	ctxOther  // something that only looks like data of a person
	ctxFiller // says nothing, and may stand in between

	// Words of these kinds mean much else too: the value follows at once.
	ctxNear = ctxAccount | ctxRouting | ctxMember | ctxLicence | ctxPlate | ctxDevice | ctxPassport | ctxMRN | ctxZip | ctxAge | ctxDiagnosis | ctxNPI | ctxDEA | ctxSecret | ctxMBI
)

// words are in lower case; of two words, the second is looked up first, and
// the pair counts where the first stands before it.
var words = map[string]context{
	"ssn": ctxSSN, "social security": ctxSSN, "ss": ctxSSN, "tin": ctxSSN, "itin": ctxSSN, "tax id": ctxSSN, "taxpayer": ctxSSN,
	"card": ctxCard, "visa": ctxCard, "mastercard": ctxCard, "amex": ctxCard, "pan": ctxCard, "cc": ctxCard, "creditcard": ctxCard,
	"phone": ctxPhone, "tel": ctxPhone, "telephone": ctxPhone, "mobile": ctxPhone, "cell": ctxPhone, "fax": ctxPhone, "call": ctxPhone, "ph": ctxPhone, "pager": ctxPhone,
	"npi": ctxNPI, "provider": ctxNPI, "dea": ctxDEA, "vin": ctxVIN, "chassis": ctxVIN, "vehicle": ctxVIN,
	"mbi": ctxMBI, "medicare": ctxMBI,
	"icd": ctxDiagnosis, "dx": ctxDiagnosis, "diagnosis": ctxDiagnosis, "diagnoses": ctxDiagnosis, "diagnosed": ctxDiagnosis, "cm": ctxDiagnosis,
	"mrn": ctxMRN, "chart": ctxMRN, "medical record": ctxMRN, "patient record": ctxMRN, "health record": ctxMRN, "patient id": ctxMRN, "patient number": ctxMRN, "hospital number": ctxMRN,
	"dob": ctxBirth, "birth": ctxBirth, "born": ctxBirth, "birthdate": ctxBirth, "birthday": ctxBirth, "bday": ctxBirth,
	"admitted": ctxDate, "admission": ctxDate, "discharge": ctxDate, "discharged": ctxDate, "died": ctxDate, "death": ctxDate, "deceased": ctxDate,
	"surgery": ctxDate, "appointment": ctxDate, "service": ctxDate, "visit": ctxDate, "seen": ctxDate,
	"age": ctxAge, "aged": ctxAge, "zip": ctxZip, "zipcode": ctxZip, "postcode": ctxZip, "postal": ctxZip,
	"account": ctxAccount, "acct": ctxAccount, "routing": ctxRouting, "aba": ctxRouting,
	"member": ctxMember, "subscriber": ctxMember, "beneficiary": ctxMember, "policy": ctxMember, "insurance": ctxMember,
	"license": ctxLicence, "licence": ctxLicence, "dl": ctxLicence, "certificate": ctxLicence, "plate": ctxPlate, "license plate": ctxPlate, "licence plate": ctxPlate,
	"serial": ctxDevice, "imei": ctxDevice, "udi": ctxDevice, "device": ctxDevice, "implant": ctxDevice, "passport": ctxPassport,
	"password": ctxSecret, "passwd": ctxSecret, "pwd": ctxSecret, "secret": ctxSecret, "passphrase": ctxSecret, "apikey": ctxSecret, "api key": ctxSecret, "access key": ctxSecret, "secret key": ctxSecret, "auth token": ctxSecret, "access token": ctxSecret,
	"version": ctxOther, "ver": ctxOther, "v": ctxOther, "release": ctxOther, "build": ctxOther, "order": ctxOther, "invoice": ctxOther, "tracking": ctxOther, "sku": ctxOther, "isbn": ctxOther, "ticket": ctxOther, "firmware": ctxOther, "lot": ctxOther, "section": ctxOther, "oid": ctxOther, "part": ctxOther,
	"number": ctxFiller, "no": ctxFiller, "num": ctxFiller, "nr": ctxFiller, "id": ctxFiller, "is": ctxFiller, "of": ctxFiller, "the": ctxFiller, "date": ctxFiller, "on": ctxFiller, "was": ctxFiller, "code": ctxFiller, "codes": ctxFiller, "key": ctxFiller, "value": ctxFiller, "text": ctxFiller, "at": ctxFiller, "for": ctxFiller, "with": ctxFiller, "ending": ctxFiller, "hash": ctxFiller, "in": ctxFiller, "primary": ctxFiller, "s": ctxFiller,
}

const (
	maxWord  = 20 // bytes
	maxWords = 6  // looked at before a value
	maxReach = 72 // bytes before it
)

// contextBefore returns what the nearest word before b[from] that says anything
// says, and whether nothing but fillers stands in between. Another number in
// between ends the search; a label counts as standing before the value.
func (s *Scanner) contextBefore(b []byte, from int) (c context, near bool) {
	low := max(0, from-maxReach)
	c, near = wordsBefore(b, from, low)
	if c == 0 && s.label != 0 {
		return s.label, true
	}
	return c, near
}

func wordsBefore(b []byte, from, low int) (context, bool) {
	near, nearer := true, true  // nearer is near without the latest word
	var buf [2*maxWord + 1]byte // a pair
	i, pending := from, context(0)
	end := len(buf)
	for n := 0; n < maxWords && i > low; {
		if b[i-1] >= 0x80 || classes[b[i-1]]&alnum == 0 {
			i--
			continue
		}
		if is(b, i-1, digit) {
			to := i
			if i = runBack(b, i, low, digit); to-i >= 3 || is(b, i-1, alnum) && i < from-3 {
				return pending, near
			}
			continue
		}
		to := i
		i = wordBack(b, i, low)
		n++
		if to-i > maxWord {
			end, near = len(buf), false
			continue
		}
		// The word stands at the end of buf, or before the one behind it.
		second := end < len(buf)
		at := end
		if second {
			at--
			buf[at] = ' '
		}
		at -= to - i
		for k := i; k < to; k++ {
			buf[at+k-i] = b[k] | 0x20
		}
		if second {
			if c := words[string(buf[at:])]; c != 0 {
				return c, nearer
			}
			copy(buf[len(buf)-(to-i):], buf[at:at+to-i])
		}
		end = len(buf) - (to - i)
		c := words[string(buf[end:])]
		nearer = near
		switch {
		case pending != 0: // only the pair could have said more
			return pending, near
		case c&^ctxFiller != 0:
			pending = c
		case c == 0 && abbreviated(b, i, to):
			return ctxBirth, near
		case c == 0:
			near = false
		}
	}
	return pending, near
}

// wordBack returns the beginning of the word that ends at i: of letters, and in
// camelCase from its last capital letter.
func wordBack(b []byte, i, low int) int {
	small := is(b, i-1, lower)
	for i > low && is(b, i-1, letter) {
		i--
		if small && is(b, i, upper) {
			break
		}
		if !small && is(b, i-1, lower) {
			break
		}
	}
	return i
}

// abbreviated reports the b of d.o.b.
func abbreviated(b []byte, i, to int) bool {
	return to-i == 1 && b[i]|0x20 == 'b' && i >= 4 && b[i-1] == '.' && b[i-2]|0x20 == 'o' && b[i-3] == '.' && b[i-4]|0x20 == 'd'
}

func labelContext(name string) context {
	c, _ := wordsBefore([]byte(name), len(name), 0)
	return c &^ ctxFiller
}
