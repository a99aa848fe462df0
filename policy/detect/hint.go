package detect

import "strings"

// titles are what columns are called whose kind no context tells.
var titles = map[string]Kind{
	"email": Email, "mail": Email, "e mail": Email, "ip": IP, "ipaddr": IP, "ipaddress": IP, "mac": MAC, "macaddr": MAC, "url": URL, "website": URL, "homepage": URL,
	"iban": IBAN, "address": Address, "addr": Address, "street": Address, "address line": Address, "mac address": MAC, "ip address": IP, "email address": Email, "mail address": Email,
	"first name": Name, "firstname": Name, "last name": Name, "lastname": Name, "surname": Name, "forename": Name, "given name": Name, "family name": Name,
	"full name": Name, "fullname": Name, "middle name": Name, "maiden name": Name, "patient name": Name, "contact name": Name, "fname": Name, "lname": Name,
	"city": Place, "town": Place, "county": Place, "token": APIKey,
}

// spoken gives the kind that a context is most often of.
var spoken = []struct {
	context context
	kind    Kind
}{
	{ctxSSN, SSN},
	{ctxCard, Card},
	{ctxPhone, Phone},
	{ctxNPI, NPI},
	{ctxDEA, DEA},
	{ctxVIN, VIN},
	{ctxMBI, MBI},
	{ctxDiagnosis, Diagnosis},
	{ctxMRN, MRN},
	{ctxBirth, BirthDate},
	{ctxDate, Date},
	{ctxAge, Age},
	{ctxZip, Zip},
	{ctxAccount, Account},
	{ctxRouting, Routing},
	{ctxMember, Member},
	{ctxLicence, Licence},
	{ctxPlate, Plate},
	{ctxDevice, Device},
	{ctxPassport, Passport},
	{ctxSecret, Password},
}

// Hint returns the kind of data that a column of this name most likely holds,
// and how sure the name alone makes it; 0 where it says nothing.
func Hint(column string) (Kind, uint8) {
	b, last, pair := []byte(column), "", ""
	for i := len(b); i > 0 && pair == ""; {
		if !is(b, i-1, letter) {
			i--
			continue
		}
		to := i
		i = wordBack(b, i, 0)
		word := strings.ToLower(column[i:to])
		if last == "" {
			last = word
		} else {
			pair = word + " " + last
		}
	}
	for _, t := range []string{pair, last} {
		if k := titles[t]; k != 0 {
			return k, 70
		}
	}
	c := labelContext(column)
	for _, s := range spoken {
		if c == s.context {
			if c&ctxNear != 0 && words[last] != c && words[pair] != c && words[last] != ctxFiller || c&(ctxDate|ctxCard|ctxNPI|ctxMember|ctxDevice) != 0 {
				return s.kind, 40 // policy_text, device_status, provider
			}
			return s.kind, 70
		}
	}
	if last == "name" && pair == "" {
		return Name, 40
	}
	return 0, 0
}
