/* What is supervised:  child RECORDS INDEX [MILLISECONDS STATUS]
 *
 * The first thing main does is to append a record to the file RECORDS: whose it is, its PID, and the time.
 * So nobody has to be believed who says that it runs, and no poll interval is in the times.  Then it sleeps:
 * for ever, or so long, and exits with STATUS.
 * One write of so few bytes with O_APPEND is never mixed with another.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	struct { uint32_t index; int32_t pid; uint64_t ns; } born;
	struct timespec now;
	int fd;

	clock_gettime(CLOCK_MONOTONIC, &now);
	if (argc != 3 && argc != 5)
		return 2;
	born.index = (uint32_t)strtoul(argv[2], NULL, 10);
	born.pid = getpid();
	born.ns = (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
	fd = open(argv[1], O_WRONLY | O_APPEND | O_CLOEXEC);
	if (fd < 0 || write(fd, &born, sizeof born) != sizeof born)
		return 1;
	close(fd);
	if (argc == 5) {
		long ms = atol(argv[3]);
		struct timespec life = { ms / 1000, ms % 1000 * 1000000 };

		nanosleep(&life, NULL);
		return atoi(argv[4]);
	}
	for (;;)
		pause();
}
