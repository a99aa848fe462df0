package mask

import (
	"encoding/binary"
	"strconv"
	"strings"
)

// A fake is drawn from lists by the HMAC of a value: the same for the same
// value, and plausible. Many values show as one fake. Domains are those that
// RFC 2606 reserves, so no fake address is anybody's.

var (
	given    = strings.Fields(givenNames)
	families = strings.Fields(familyNames)
	streets  = strings.Fields(streetNames)
	cities   = strings.Split(strings.ReplaceAll(cityNames, "\n", " "), ", ")
	ways     = strings.Fields("Street Road Avenue Lane Way Drive")
	domains  = strings.Fields("example.com example.net example.org")
)

// appendFake appends a fake of a kind, drawn by a tag of 32 bytes.
func appendFake(dst []byte, of string, tag []byte) []byte {
	draw := func(i int, list []string) string {
		return list[binary.BigEndian.Uint32(tag[4*i:])%uint32(len(list))]
	}
	number := func(i int, most uint32) int64 { return int64(1 + binary.BigEndian.Uint32(tag[4*i:])%most) }
	switch of {
	case "name":
		dst = append(append(dst, draw(0, given)...), ' ')
		return append(dst, draw(1, families)...)
	case "street":
		dst = append(strconv.AppendInt(dst, number(0, 999), 10), ' ')
		dst = append(append(dst, draw(1, streets)...), ' ')
		return append(dst, draw(2, ways)...)
	case "city":
		return append(dst, draw(0, cities)...)
	case "email":
		dst = append(appendLower(dst, draw(0, given)), '.')
		dst = strconv.AppendInt(appendLower(dst, draw(1, families)), number(2, 9999), 10)
		return append(append(dst, '@'), draw(3, domains)...)
	}
	return append(dst, defaultConstant...)
}

func appendLower(dst []byte, s string) []byte {
	for i := range len(s) {
		dst = append(dst, s[i]|0x20) // the lists are of letters
	}
	return dst
}

const givenNames = `Ada Adele Aidan Alba Alma Amir Amos Anders Anika Anton Ariel Arno Astrid Aurel Aya Basil Beata Benno Bianca Boris
Bram Bruno Carla Casper Cecil Chiara Clara Conrad Cora Cosmo Dalia Damian Daria Della Dexter Dina Dora Edda Edgar Elena Elias Elio
Ella Elmar Elsa Emil Enid Enzo Erika Esme Ethel Ezra Fabian Fanny Felix Ferdinand Fiona Flora Floyd Freda Frida Gareth Gemma Gideon
Gilda Greta Guido Gwen Hanno Harold Hattie Hazel Hector Hedda Helga Henrik Hilda Hugo Ida Ilse Imogen Ingrid Ira Irma Isla Ivan
Ivo Jana Jasper Jonas Jorge Judith Jules Kaia Kamil Karel Katja Keith Kira Klaus Lana Lars Laszlo Leah Leif Lena Leon Lidia Linus
Lorna Lotte Lucia Luka Lydia Magda Magnus Malik Mara Marek Marta Mateo Maud Mila Milan Mina Miriam Moritz Nadia Nils Nina Noel
Nora Odette Olaf Olga Oscar Otis Otto Pablo Paula Percy Petra Piers Rafael Ramona Renata Rhea Rolf Rosa Rufus Ruth Sabine Salma
Samir Selma Silas Simone Sonja Stella Sven Tamar Tara Tessa Theo Thora Tilda Tobias Ulla Ursula Vera Viggo Viola Wanda Wilma Yara
Yusuf Zelda Zora`

const familyNames = `Abbott Acker Adler Albrecht Alcott Amsel Archer Ashby Auer Bailey Barlow Baumann Becker Beckett Bellamy Berg Birch
Blackwood Boone Bowen Brandt Braun Briggs Brook Burke Byrne Calder Carver Castell Chandler Clay Colby Cooper Corwin Crane Cross
Dahl Dalton Danner Darrow Decker Denholm Dietrich Dorsey Draper Drexel Dunn Eckert Ellery Elm Engel Ennis Falk Farrow Fenn Field
Finch Fischer Fleck Forster Frost Fuller Gallo Garland Gerber Glover Goss Grant Graves Grove Haas Hagen Hale Harlow Hart Hawke
Hayes Heller Hobbs Holm Hooper Horn Hurst Ibsen Ives Jansen Jarvis Jensen Kane Keller Kemp Kern Kessler Kirk Klein Knapp Kolb
Kramer Krause Lambert Lang Larkin Lasker Lehmann Lind Locke Lorenz Lowell Lund Mabry Maddox Maier Marlow Marsh Mercer Merrill
Metz Moeller Monk Moss Nash Neumann Noble Nolan North Nye Oakes Odell Olsen Orr Otten Paige Palmer Parrish Peel Penn Pike Pohl
Porter Prescott Quill Quinn Ralston Ramsey Rand Rausch Reed Reiter Rhodes Ritter Rowe Rusk Sachs Sander Sauer Sawyer Schenk Sexton
Shaw Slater Snow Sommer Stark Steiner Sterling Stone Tate Thorne Tolland Vance Vogel Wagner Walsh Weaver Webb Weiss Wilder Winter
Wolff Yates Young Zeller Zimmer`

const streetNames = `Acorn Alder Ash Aspen Beech Birch Bramble Bridge Brook Canal Castle Cedar Chapel Cherry Chestnut Church Clover
Copper Coral Cypress Dale Depot East Elder Elm Fern Field Forest Fountain Garden Gate Glen Granary Harbor Hawthorn Hazel Heath Heron
Hill Holly Ivy Juniper Lake Larch Laurel Lilac Linden Maple Market Meadow Mill North Oak Orchard Park Pine Plum Poplar Quarry Ridge
River Rowan School Sorrel South Spring Spruce Station Stone Sycamore Thistle Valley Vine Walnut West Willow Yew`

const cityNames = `Aldermere, Amberford, Ashcombe, Barrowmoor, Beckfield, Birchwick, Blackmere, Bramford, Brightwater, Broadmoor, Calderby,
Cedarholm, Clearbrook, Coldstream Park, Copperhill, Cranfield Heath, Deepdale, Dunmere, Eastholm, Elmsworth, Fairhaven, Fallowfield, Fernley,
Foxcombe, Glenmoor, Goldenford, Graymarsh, Greenhollow, Harrowgate, Hartwell, Hazelmere, Highfield, Hollowbrook, Ironbridge Cross, Ivydale,
Kestrel Bay, Kingsmoor, Lakenby, Larkspur, Linden Falls, Longmeadow, Maplehurst, Marshgate, Millbrook, Moorland, Northwick, Oakhaven,
Oldbridge, Pinecrest, Quarry Hill, Ravensford, Redcliffe, Riverbend, Rosedale, Saltmarsh, Sandholm, Silverlake, Southmere, Stonehaven,
Summerfield, Thornbury, Valewood, Westbrook, Whitmore, Wildwood, Willowdale, Windmere, Woodcroft`
