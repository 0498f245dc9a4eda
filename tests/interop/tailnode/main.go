// A node of Tailscale's own: WireGuard, disco, magicsock and its user-space TCP. It takes one peer from its input and
// talks to it; what it is and what happens is written as JSON, one object a line. Control is Tailscale's test server,
// inside this process. Two such nodes meet by `-serve`, on the control of the one, and `-join`, of the other: then the
// peer is whom that control knows, and none is read from the input.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"os"
	"time"

	"go4.org/mem"
	"tailscale.com/client/local"
	"tailscale.com/tailcfg"
	"tailscale.com/tsnet"
	"tailscale.com/tstest/integration/testcontrol"
	"tailscale.com/types/key"
	"tailscale.com/types/logger"
)

// What the input says of the peer.
type peer struct {
	Key       string   `json:"key"`
	Disco     string   `json:"disco"`
	Address   string   `json:"address"`
	Endpoints []string `json:"endpoints"`
	Region    int      `json:"region"`
}

// What may be asked once the peer is known.
type command struct {
	Ping string  `json:"ping"` // "disco" or "TSMP"
	Dial int     `json:"dial"` // send a line to this port of the peer, and read one
	Take float64 `json:"take"` // receive from the peer's port 19 for so many seconds
}

func say(fields map[string]any) {
	line, err := json.Marshal(fields)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(string(line))
}

func must[T any](value T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return value
}

func main() {
	directory := flag.String("dir", "", "state")
	relay := flag.Int("relay", 0, "port of the relay on loopback")
	stun := flag.Int("stun", -1, "port of the STUN server on loopback")
	host := flag.String("host", "127.0.0.1", "address of the relay and the STUN server")
	serve := flag.String("serve", "127.0.0.1:0", "where control listens")
	join := flag.String("join", "", "URL of another node's control, instead of one's own")
	meets := flag.Bool("meets", false, "the peer is who joins, and not read from the input")
	verbose := flag.Bool("verbose", false, "log to stderr")
	flag.Parse()
	started := time.Now()

	logf := logger.Discard
	if *verbose {
		logf = log.Printf
	}
	derp := &tailcfg.DERPMap{OmitDefaultRegions: true, Regions: map[int]*tailcfg.DERPRegion{999: {
		RegionID: 999, RegionCode: "t", RegionName: "Test",
		Nodes: []*tailcfg.DERPNode{{Name: "999a", RegionID: 999, HostName: *host, IPv4: *host, IPv6: "none",
			DERPPort: *relay, STUNPort: *stun, InsecureForTests: true, STUNTestIP: *host}},
	}}}
	control := &testcontrol.Server{Logf: logf, DERPMap: derp, AllNodesSameUser: true}
	if *join == "" {
		listener := must(net.Listen("tcp", *serve))
		control.ExplicitBaseURL = "http://" + listener.Addr().String()
		go http.Serve(listener, control)
	} else {
		control.ExplicitBaseURL = *join
	}

	node := &tsnet.Server{Dir: *directory, Hostname: fmt.Sprintf("node%d", os.Getpid()), ControlURL: control.ExplicitBaseURL, Ephemeral: true,
		Logf: logf, UserLogf: logf}
	defer node.Close()
	context, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	must(node.Up(context))
	go serveEach(must(node.Listen("tcp", ":7")), func(connection net.Conn) { io.Copy(connection, connection) })
	go serveEach(must(node.Listen("tcp", ":19")), pour)

	client := must(node.LocalClient())
	input := bufio.NewScanner(os.Stdin)
	var address netip.Addr
	if *join != "" || *meets {
		say(map[string]any{"control": control.ExplicitBaseURL})
		address = meet(context, client)
	} else {
		address = takePeer(context, client, control, input)
	}
	say(map[string]any{"ready": true})
	for input.Scan() {
		var asked command
		if err := json.Unmarshal(input.Bytes(), &asked); err != nil {
			log.Fatal(err)
		}
		switch {
		case asked.Ping != "":
			result, err := client.Ping(context, address, tailcfg.PingType(asked.Ping))
			if err != nil || result.Err != "" {
				say(map[string]any{"error": fmt.Sprint(err, result)})
				continue
			}
			say(map[string]any{"seconds": result.LatencySeconds, "endpoint": result.Endpoint, "region": result.DERPRegionID})
		case asked.Dial != 0:
			answer, err := ask(context, node, netip.AddrPortFrom(address, uint16(asked.Dial)))
			if err != nil {
				say(map[string]any{"error": err.Error()})
				continue
			}
			say(map[string]any{"answer": answer, "since_start": time.Since(started).Seconds()})
		case asked.Take != 0:
			to := netip.AddrPortFrom(address, 19)
			bytes, seconds, err := take(context, node, to, time.Duration(asked.Take*float64(time.Second)))
			if err != nil {
				say(map[string]any{"error": err.Error()})
				continue
			}
			say(map[string]any{"bytes": bytes, "seconds": seconds})
		}
	}
}

// Say what the node is, read its peer from the input and wait until the node knows it.
func takePeer(context context.Context, client *local.Client, control *testcontrol.Server, input *bufio.Scanner) netip.Addr {
	var self *tailcfg.Node
	for self == nil || self.HomeDERP == 0 || len(self.Endpoints) == 0 {
		time.Sleep(50 * time.Millisecond)
		self = control.AllNodes()[0]
	}
	addresses := []string{}
	for _, prefix := range self.Addresses {
		addresses = append(addresses, prefix.Addr().String())
	}
	say(map[string]any{"key": self.Key.UntypedHexString(), "disco": fmt.Sprintf("%x", self.DiscoKey.Raw32()),
		"addresses": addresses, "endpoints": self.Endpoints, "region": self.HomeDERP})

	input.Scan()
	var other peer
	if err := json.Unmarshal(input.Bytes(), &other); err != nil {
		log.Fatal(err)
	}
	address := netip.MustParseAddr(other.Address)
	control.UpdateNode(describe(other, address))
	for meet(context, client) != address {
	}
	return address
}

// Wait for a peer; give its first address.
func meet(context context.Context, client *local.Client) netip.Addr {
	for {
		for _, status := range must(client.Status(context)).Peer {
			if len(status.TailscaleIPs) > 0 {
				return status.TailscaleIPs[0]
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func describe(other peer, address netip.Addr) *tailcfg.Node {
	node := &tailcfg.Node{
		ID: 77, StableID: "peer", Name: "peer.test.", User: 1, Machine: key.NewMachine().Public(),
		Key:               must(key.ParseNodePublicUntyped(mem.S(other.Key))),
		Addresses:         []netip.Prefix{netip.PrefixFrom(address, 128)},
		AllowedIPs:        []netip.Prefix{netip.PrefixFrom(address, 128)},
		MachineAuthorized: true, HomeDERP: other.Region, Cap: tailcfg.CurrentCapabilityVersion,
		Hostinfo: (&tailcfg.Hostinfo{Hostname: "peer"}).View(),
	}
	if err := node.DiscoKey.UnmarshalText([]byte("discokey:" + other.Disco)); err != nil {
		log.Fatal(err)
	}
	for _, endpoint := range other.Endpoints {
		node.Endpoints = append(node.Endpoints, netip.MustParseAddrPort(endpoint))
	}
	return node
}

func serveEach(listener net.Listener, handle func(net.Conn)) {
	for {
		connection, err := listener.Accept()
		if err != nil {
			return
		}
		go func() {
			defer connection.Close()
			handle(connection)
		}()
	}
}

// The size of one read or write of a measured stream, in bytes.
const block = 2 << 20

// Send for as long as the other side reads.
func pour(connection net.Conn) {
	zeros := make([]byte, block)
	for {
		if _, err := connection.Write(zeros); err != nil {
			return
		}
	}
}

// Receive for so long; give the bytes, and the seconds that they took.
func take(context context.Context, node *tsnet.Server, from netip.AddrPort, limit time.Duration) (int64, float64, error) {
	connection, err := node.Dial(context, "tcp", from.String())
	if err != nil {
		return 0, 0, err
	}
	defer connection.Close()
	buffer := make([]byte, block)
	began := time.Now()
	connection.SetDeadline(began.Add(limit))
	var total int64
	for {
		count, err := connection.Read(buffer)
		total += int64(count)
		var timeout net.Error
		if errors.As(err, &timeout) && timeout.Timeout() {
			return total, time.Since(began).Seconds(), nil
		}
		if err != nil {
			return total, time.Since(began).Seconds(), err
		}
	}
}

func ask(context context.Context, node *tsnet.Server, to netip.AddrPort) (string, error) {
	connection, err := node.Dial(context, "tcp", to.String())
	if err != nil {
		return "", err
	}
	defer connection.Close()
	if _, err := fmt.Fprintln(connection, "question"); err != nil {
		return "", err
	}
	return bufio.NewReader(connection).ReadString('\n')
}
