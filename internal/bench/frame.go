package bench

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// framePort is the port that every frame goes to.
const framePort = 53

// The frame's layout.
const (
	frameSize = 60 // the smallest that Ethernet carries, less its checksum
	frameIP   = 14
	frameUDP  = frameIP + 20
)

// frameSource is where a frame is from, 10.0.0.1, but for the bits of it that are random.
const frameSource = 10<<24 | 1

// newFrame is a datagram of UDP over IPv4 without checksums, from no hardware address to none.
func newFrame() []byte {
	f := make([]byte, frameSize)
	binary.BigEndian.PutUint16(f[12:], unix.ETH_P_IP)
	f[frameIP] = 0x45
	binary.BigEndian.PutUint16(f[frameIP+2:], frameSize-frameIP)
	f[frameIP+8], f[frameIP+9] = 64, unix.IPPROTO_UDP
	binary.BigEndian.PutUint32(f[frameIP+12:], frameSource)
	copy(f[frameIP+16:], []byte{10, 255, 255, 254})
	binary.BigEndian.PutUint16(f[frameUDP:], 40000)
	binary.BigEndian.PutUint16(f[frameUDP+2:], framePort)
	binary.BigEndian.PutUint16(f[frameUDP+4:], frameSize-frameUDP)
	return f
}

// headerSum is the sum of the IP header's 16-bit words as they are in memory, without the checksum and the source, which the
// sender adds.
func headerSum(frame []byte) uint32 {
	var sum uint32
	for i := frameIP; i < frameUDP; i += 2 {
		if i < frameIP+10 || i >= frameIP+16 {
			sum += uint32(binary.NativeEndian.Uint16(frame[i:]))
		}
	}
	return sum
}

// sourceMask has the bits that are random in so many sources, a power of two.
func sourceMask(sources uint64) uint32 { return uint32(sources - 1) }
