/* eject [-t] DEVICE: opens or closes the tray of a CD-ROM drive (Debian's busybox has no such applet). */
#include <fcntl.h>
#include <linux/cdrom.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

int main(int argc, char **argv)
{
    int close_it = argc == 3 && !strcmp(argv[1], "-t");
    int fd = open(argv[argc - 1], O_RDONLY | O_NONBLOCK);

    if (fd < 0 || ioctl(fd, close_it ? CDROMCLOSETRAY : CDROMEJECT)) {
        perror(argv[argc - 1]);
        return 1;
    }
    return 0;
}
